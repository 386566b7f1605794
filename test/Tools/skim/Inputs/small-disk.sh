# small-disk.sh FOLDER KIB COMMAND…: runs the command with a file system of KIB
# on FOLDER; does nothing where this user may not mount.
folder=$1 size=$2
shift 2
export folder size
if ! unshare --mount true 2>/dev/null; then
  echo "unsupported: cannot mount"
  exit 0
fi
exec unshare --mount bash -c 'mount -t tmpfs -o size=${size}k tmpfs "$folder" && exec "$@"' bash "$@"
