//===- Linear.cpp - kernels of linear layers on GPUs ------------------------===//
//
// A call's pieces (LinearPieces.h) on the schedules that the rows of x want.
//
//===----------------------------------------------------------------------===//

#include "skim/Target/GPU/Linear.h"

#include "Schedule/Schedules.h"
#include "skim/Target/GPU/LinearFamily.h"

#include <limits>
#include <numeric>

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
/// Warps that a multiprocessor needs so that enough bytes are on their way: each has
/// requested 2 KiB or more, and latency times bandwidth is 18 KiB on an H100.
constexpr int64_t kWarpsToFill = 16;
/// Rows of x from which on `wide` is used.
constexpr int64_t kWideRows = 65;

/// Rows of x from which on a library multiplies, where the target has one: fewer do not pay for decoding. And the most
/// bytes that decoded weights may take.
constexpr int64_t kLibraryRows = 256;
constexpr int64_t kMostDecoded = int64_t(512) << 20;
constexpr int64_t kDecodeWarps = 8;

/// By how much longer a block of `many` takes if it is alone and memory binds.
constexpr double kAlone = 1.1;
/// Of few rows: by how much their time in the second level of cache has to exceed that in memory, and bytes of x for
/// each multiprocessor, for `many` to be worth it.
constexpr double kWorthMore = 1.15;
constexpr int64_t kLittleX = 96 << 10;

/// Blocks that multiply first factors beside a product: as many as multiprocessors by this, at most.
constexpr int64_t kFewOfMultiprocessors = 16;
/// Workers that share the columns of such a tile: more only make the last of them add up more.
constexpr int64_t kMostSpans = 32;

/// A of a pair, made in the launch of its product.
struct First {
  FirstFactor factor;
  LaunchArgument t;
  SmallVector<int64_t> components;
};

/// A weight of a launch with its place.
struct Piece {
  KernelSignature signature;
  int64_t n;             // rows
  int64_t typical, most; // of the family's calls, which decide what a launch looks like; without one n
  LaunchArgument x, xScales, y, yStride, permutation, bias, gate, t, alpha;
  SmallVector<int64_t> components, factors;
};
using Pieces = std::vector<Piece>;

Error checkLeaf(WeightEncoding leaf, int64_t k) {
  if (makeDecoder(leaf, {k, false}))
    return Error::success();
  return fail("no kernel", leaf.getShortName(), "an encoding with a decoder for GPUs", "");
}

Error checkByteLeaf(WeightEncoding leaf, int64_t k) {
  std::unique_ptr<Decoder> decoder = makeDecoder(leaf, {k, false, true});
  if (!decoder || !decoder->hasBytes())
    return fail("no kernel for activations a8", leaf.getShortName(), "values that are integers of 8 bits", "others");
  if (int64_t group = decoder->group(); group != 0 && group < k && group % kStepColumns != 0)
    return fail("no kernel for activations a8", leaf.getShortName(), "groups of multiples of 32 columns",
                std::to_string(group));
  if (packedColumns(k) > kMostByteColumns)
    return fail("no kernel for activations a8", leaf.getShortName(),
                "at most " + std::to_string(kMostByteColumns) + " columns", std::to_string(k));
  return Error::success();
}

class Planner {
public:
  Planner(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module, const GPUTarget &target,
          const LinearCall &call, int64_t m, const RowSource &source, const LinearFamily *family)
      : builder(builder), loc(loc), module(module), target(target), call(call), source(source), family(family),
        bf16(call.mode == "bf16"), a8(call.mode == "a8"), m(m) {}

  Error run() {
    LinearPieces parts = takeApart(call);
    one = m == 1 && fitsOne(call.k);
    beside = one && standBeside(parts);
    bool byLibrary = isForLibrary(parts);
    if (!byLibrary && !a8 && target.hasWgmma() && m >= kWideRows && isWide(parts))
      layout = PackedLayout::Matrices;
    packAll(parts);
    Pieces pieces, behind;
    if (family)
      pieces = piecesOfFamily(parts);
    else
      for (const LinearPiece &piece : parts.pieces)
        pieces.push_back(pieceOf(piece, a8));
    if (byLibrary) {
      multiplyByLibrary(parts, pieces);
      return Error::success();
    }
    for (auto [index, pair] : llvm::enumerate(parts.pairs)) {
      const LinearPiece *whole = holderOf(parts, pair);
      if (!whole) {
        behind.push_back(secondFactor(pair, products[index]));
        if (call.epilogue == LinearEpilogue::Gate)
          for (auto [part, piece] : llvm::zip(parts.pieces, pieces))
            if (part.yColumn == pair.yColumn)
              piece.signature.epilogue = LinearEpilogue::Store; // the gate comes behind both products
        continue;
      }
      Piece &piece = pieces[whole - parts.pieces.begin()];
      piece.signature.factors = pair.factors;
      piece.signature.rank = pair.rank;
      piece.t = products[index];
      piece.factors = pair.b;
    }
    launch(pieces, {}, one, layout);
    launch(behind, {}, /*makeX=*/false, PackedLayout::Rows);
    return Error::success();
  }

  LinearPlan take() { return std::move(plan); }

private:
  OpBuilder &builder;
  Location loc;
  mlir::gpu::GPUModuleOp module;
  const GPUTarget &target;
  const LinearCall &call;
  const RowSource &source;
  const LinearFamily *family;
  bool bf16, a8;
  bool one = false;                         // x is made where it is multiplied
  bool beside = false;                      // and A in the launch of its product
  PackedLayout layout = PackedLayout::Rows; // of x
  int64_t m;
  LinearPlan plan;
  llvm::SmallMapVector<int64_t, LaunchArgument, 4> packed;                           // x times α, by α
  llvm::SmallMapVector<int64_t, std::pair<LaunchArgument, LaunchArgument>, 4> bytes; // the same as bytes, with scales
  SmallVector<LaunchArgument> products;                                              // t of each pair
  std::vector<First> firsts;

  /// Whether bits of one row of x are multiplied with bits of codes. Of more than four memory binds either way.
  bool isBinary(WeightEncoding leaf) const {
    std::unique_ptr<Decoder> decoder = makeDecoder(leaf, {call.k, false, true});
    bool fits = decoder->group() >= call.k || decoder->group() % 128 == 0;
    return target.hasBinary() && decoder->hasBits() && decoder->bits() <= 4 && fits;
  }

  /// The piece whose sums have the pair's; of permuted parts there is none, and none of integers.
  const LinearPiece *holderOf(const LinearPieces &parts, const LowRankPair &pair) const {
    if (a8)
      return nullptr;
    const auto *found = llvm::find_if(parts.pieces, [&](const LinearPiece &piece) {
      return piece.yColumn == pair.yColumn && piece.n == pair.n && piece.permutation < 0;
    });
    return found == parts.pieces.end() ? nullptr : found;
  }

  /// True if one launch can make t and read it: it has all pieces, each of which multiplies its pair's B; and blocks
  /// have x as A wants it, without α.
  bool standBeside(const LinearPieces &parts) const {
    return !parts.pairs.empty() && parts.pieces.size() <= kMostPieces && parts.pairs.size() <= kMostPieces &&
           llvm::none_of(parts.pieces, [](const LinearPiece &piece) { return piece.alpha >= 0; }) &&
           llvm::all_of(parts.pairs, [&](const LowRankPair &pair) { return holderOf(parts, pair); });
  }

  LaunchArgument allocate(int64_t bytes) {
    int64_t at = plan.scratchBytes;
    plan.scratchBytes += static_cast<int64_t>(llvm::alignTo(bytes, 256));
    return {LaunchArgument::Scratch, 0, at};
  }
  static LaunchArgument constant(int64_t value) { return {LaunchArgument::Constant, value}; }
  SmallVector<LaunchArgument> sourceArguments() {
    SmallVector<LaunchArgument> all;
    for (size_t i = 0; i < source.arguments().size(); ++i)
      all.push_back({LaunchArgument::X, static_cast<int64_t>(i)});
    return all;
  }

  /// x in the forms that pieces want, and t = A·x of the pairs.
  void packAll(const LinearPieces &parts) {
    Pieces first;
    for (const LinearPiece &piece : parts.pieces)
      if (!one && a8)
        bytes.insert({piece.alpha, {}});
      else if (!one)
        packed.insert({piece.alpha, {}});
    // With one form the kernel that multiplies A packs x on the way.
    bool fused = !a8 && m <= 8 && !parts.pairs.empty() && packed.size() == 1 && parts.pairs.size() <= kMostPieces;
    if (!parts.pairs.empty() && !fused && !one)
      packed.insert({-1, {}});
    bool plain = packed.contains(-1);
    SmallVector<LaunchArgument> forms;
    if (plain)
      forms.push_back(packed[-1] = allocate(packedBytes(layout, m, call.k)));
    for (auto &[alpha, at] : packed)
      if (alpha >= 0) {
        at = allocate(packedBytes(layout, m, call.k));
        forms.append({at, {LaunchArgument::Weight, alpha}});
      }
    // A product of its own reads t in whole steps, which A's rows need not fill: then t is packed like x.
    bool packProducts = llvm::any_of(
        parts.pairs, [&](const LowRankPair &pair) { return !holderOf(parts, pair) && pair.rank % kStepColumns != 0; });
    SmallVector<LinearLaunch> productPacks;
    PlainRows plainRows;
    for (const LowRankPair &pair : parts.pairs) {
      if (beside) {
        products.push_back(allocate(packedColumns(pair.rank) * 2));
        First first = {{pair.factors, pair.rank}, products.back(), pair.a};
        auto behind =
            llvm::find_if(llvm::reverse(firsts), [&](const First &other) { return other.factor == first.factor; });
        firsts.insert(behind == firsts.rend() ? firsts.end() : behind.base(), first);
        continue;
      }
      LinearPiece a;
      a.leaf = pair.factors;
      a.n = pair.rank;
      a.components = pair.a;
      Piece piece = pieceOf(a);
      piece.signature.epilogue = LinearEpilogue::Store;
      products.push_back(allocate(m * packedColumns(pair.rank) * 2));
      piece.signature.halves = !packProducts;
      piece.y = packProducts ? allocate(m * pair.rank * 4) : products.back();
      piece.yStride = constant(packProducts ? pair.rank : packedColumns(pair.rank));
      first.push_back(piece);
      if (packProducts)
        productPacks.push_back(
            packLaunch(plainRows, pair.rank, {piece.y}, {products.back()}, true, 0, PackedLayout::Rows));
    }
    for (auto &[alpha, form] : bytes) {
      form = {allocate(m * packedColumns(call.k)), allocate(m * 4)};
      plan.launches.push_back(bytePackLaunch(alpha, form.first, form.second));
    }
    if (!fused && !packed.empty())
      plan.launches.push_back(packLaunch(source, call.k, sourceArguments(), forms, plain,
                                         static_cast<int64_t>(packed.size()) - plain, layout));
    launch(first, fused ? ArrayRef<LaunchArgument>(forms) : ArrayRef<LaunchArgument>(), one, layout);
    plan.launches.append(productPacks);
  }

  LinearLaunch packLaunch(const RowSource &from, int64_t k, ArrayRef<LaunchArgument> arguments,
                          ArrayRef<LaunchArgument> forms, bool plain, int64_t scaled, PackedLayout as) {
    LinearLaunch pack;
    pack.kernel = getOrCreatePack(builder, loc, module, from, k, bf16, plain, scaled, as);
    pack.grid = {packBlocks(from, k), -1, 1};
    pack.threads = packThreads(from, k);
    pack.arguments = llvm::to_vector(arguments);
    pack.arguments.append(forms.begin(), forms.end());
    return pack;
  }

  LinearLaunch bytePackLaunch(int64_t alpha, LaunchArgument to, LaunchArgument scales) {
    LinearLaunch pack;
    pack.kernel = getOrCreateBytePack(builder, loc, module, source, call.k, alpha >= 0);
    pack.grid = {1, -1, 1};
    pack.threads = kBytePackThreads;
    pack.arguments = sourceArguments();
    pack.arguments.append({to, scales});
    if (alpha >= 0)
      pack.arguments.push_back({LaunchArgument::Weight, alpha});
    return pack;
  }

  KernelSignature signatureOf(WeightEncoding leaf, int64_t k, int64_t n) {
    KernelSignature signature;
    signature.leaf = leaf;
    signature.k = k;
    signature.bf16 = bf16;
    signature.epilogue = call.epilogue;
    signature.partial = n % kTileRows != 0;
    return signature;
  }

  /// `asBytes`: x is.
  Piece pieceOf(const LinearPiece &from, bool asBytes = false) {
    Piece piece;
    piece.signature = signatureOf(from.leaf, call.k, from.n);
    piece.signature.a8 = asBytes;
    piece.n = piece.typical = piece.most = from.n;
    piece.x = packed.lookup(from.alpha);
    if (asBytes)
      std::tie(piece.x, piece.xScales) = bytes.lookup(from.alpha);
    piece.signature.binary = asBytes && one && isBinary(from.leaf);
    piece.y = {LaunchArgument::Y, 0, from.yColumn * 4};
    piece.yStride = {LaunchArgument::Stride};
    piece.gate = {LaunchArgument::Gate, 0, from.yColumn * 4};
    if (from.permutation >= 0) {
      piece.signature.partial = true; // any number of rows
      piece.signature.permutation = from.permutationType;
      int64_t bytes = from.permutationType.getIntOrFloatBitWidth() / 8;
      piece.permutation = {LaunchArgument::Weight, from.permutation, from.firstRow * bytes};
    }
    if (one && from.alpha >= 0) {
      piece.signature.scaled = true;
      piece.alpha = {LaunchArgument::Weight, from.alpha};
    }
    piece.signature.biased = from.bias >= 0;
    piece.bias = {LaunchArgument::Weight, from.bias};
    piece.components = from.components;
    return piece;
  }

  /// The pieces of all calls of the family. What this one has not has no rows, and pointers that nobody follows.
  Pieces piecesOfFamily(const LinearPieces &parts) {
    SmallVector<const LinearPiece *> own = byKind(parts);
    int64_t any = own.front()->components.front();
    Pieces pieces;
    auto next = own.begin();
    for (const LinearFamily::Slot &slot : family->slots) {
      bool isThere = next != own.end() && PieceKind(**next) == slot.kind;
      LinearPiece piece;
      if (isThere) {
        piece = **next++;
      } else {
        piece.leaf = slot.kind.leaf;
        piece.components.assign(getComponents(piece.leaf, {kTileRows, call.k}).size(), any);
        piece.permutation = slot.kind.permutation ? any : -1;
        piece.permutationType = slot.kind.permutation;
        piece.bias = slot.kind.biased ? any : -1;
        piece.alpha = slot.kind.scaled ? any : -1;
      }
      pieces.push_back(pieceOf(piece, a8));
      pieces.back().signature.partial = slot.kind.partial;
      pieces.back().typical = slot.typical;
      pieces.back().most = slot.most;
    }
    return pieces;
  }

  /// y += B·t in a launch of its own.
  Piece secondFactor(const LowRankPair &pair, LaunchArgument t) {
    LinearPiece b;
    b.leaf = pair.factors;
    b.n = pair.n;
    b.yColumn = pair.yColumn;
    b.components = pair.b;
    Piece piece = pieceOf(b);
    piece.signature.k = pair.rank;
    piece.signature.epilogue = LinearEpilogue::Add;
    if (call.epilogue == LinearEpilogue::Gate) {
      piece.signature.epilogue = LinearEpilogue::Gate;
      piece.signature.onto = true;
    }
    piece.x = t;
    return piece;
  }

  /// Whether all is one product that a library knows: one x, no more than sums.
  bool isForLibrary(const LinearPieces &parts) const {
    int64_t n = 0;
    for (const LinearPanel &panel : call.panels)
      n += panel.n;
    return target.library && !a8 && m >= kLibraryRows && parts.pairs.empty() && call.epilogue != LinearEpilogue::Gate &&
           n * packedColumns(call.k) * 2 <= kMostDecoded && llvm::all_of(parts.pieces, [&](const LinearPiece &piece) {
             return piece.bias < 0 && piece.alpha == parts.pieces.front().alpha;
           });
  }

  /// The panels' weights decoded, one behind the other as their columns of y are, and multiplied.
  void multiplyByLibrary(const LinearPieces &parts, Pieces &pieces) {
    int64_t n = 0, k = packedColumns(call.k);
    for (const LinearPanel &panel : call.panels)
      n = std::max(n, panel.yColumn + panel.n);
    LaunchArgument decoded = allocate(n * k * 2), x = packed.lookup(parts.pieces.front().alpha);
    for (Piece &piece : pieces) {
      piece.signature.epilogue = LinearEpilogue::Store;
      piece.signature.warps = kDecodeWarps;
      piece.y = {LaunchArgument::Scratch, 0, decoded.offset + piece.y.offset / 4 * k * 2};
      piece.yStride = constant(k);
    }
    for (const Pieces &group : groupsOf(pieces)) {
      LaunchSignature launch;
      LinearLaunch planned;
      planned.threads = 32 * kDecodeWarps;
      planned.arguments = {{LaunchArgument::Rows}};
      int64_t blocks = 0;
      for (const Piece &piece : group) {
        launch.pieces.push_back(piece.signature);
        if (&piece != &group.front())
          planned.arguments.push_back(constant(blocks));
        addArguments(piece, planned.arguments, true);
        blocks += (piece.n + kTileRows - 1) / kTileRows;
      }
      if (!blocks)
        continue;
      planned.kernel = getOrCreateKernel(builder, loc, module, launch, "decode", 16, emitDecodeKernel);
      planned.grid = {blocks, 1, 1};
      plan.launches.push_back(planned);
    }
    LinearLaunch product;
    product.product = LibraryProduct{n, k, bf16, call.epilogue == LinearEpilogue::Add};
    product.arguments = {decoded, x, {LaunchArgument::Y}, {LaunchArgument::Stride}};
    plan.launches.push_back(product);
  }

  /// Pieces of a launch agree in k and epilogue; equal ones stand together.
  static std::vector<Pieces> groupsOf(ArrayRef<Piece> pieces) {
    std::vector<Pieces> groups;
    for (const Piece &piece : pieces) {
      auto group = llvm::find_if(groups, [&](const Pieces &some) {
        const KernelSignature &shape = some.front().signature;
        return shape.k == piece.signature.k && shape.epilogue == piece.signature.epilogue &&
               shape.binary == piece.signature.binary && some.size() < kMostPieces;
      });
      if (group == groups.end()) {
        groups.emplace_back();
        group = std::prev(groups.end());
      }
      auto equal =
          llvm::find_if(llvm::reverse(*group), [&](const Piece &other) { return other.signature == piece.signature; });
      group->insert(equal.base() == group->begin() ? group->end() : equal.base(), piece);
    }
    return groups;
  }

  /// Launches of the pieces, with `forms` such that pack x on the way, with `makeX` such that make it themselves; else
  /// it lies packed `as` that.
  void launch(ArrayRef<Piece> pieces, ArrayRef<LaunchArgument> forms, bool makeX, PackedLayout as) {
    for (Pieces &group : groupsOf(pieces)) {
      launchGroup(group, forms, makeX, as == PackedLayout::Matrices);
      forms = {};
    }
  }

  void launchGroup(Pieces &pieces, ArrayRef<LaunchArgument> forms, bool makeX, bool wide) {
    KernelSignature shape = pieces.front().signature; // what all have in common
    int64_t units = 1, spans = INT64_MAX, slabs = 1, resident = 0;
    for (const Piece &piece : pieces) {
      std::unique_ptr<Decoder> decoder = makeDecoder(piece.signature.leaf, piece.signature.decodeContext());
      units = std::max(units, Columns::units(*decoder, shape.k));
      spans = std::min(spans, wide ? wideSpans(*decoder, shape.k) : manySpans(*decoder, shape.k));
    }
    bool few = m <= 8 && (makeX || !forms.empty() || !isBoundByX(pieces));
    if (few) {
      // A unit for each warp at least.
      shape.warps = std::min<int64_t>(8, static_cast<int64_t>(llvm::PowerOf2Ceil(units)));
      if (makeX)
        resident = shapeOne(pieces, shape);
    } else {
      shape.xTiles = m <= 8 ? 1 : m <= 16 ? 2 : m <= 32 || (!a8 && readsTables(pieces)) ? 4 : 8;
      if (!wide) {
        shapeMany(pieces, shape);
      } else {
        shape.xTiles = kWideXTiles;
        shape.warps = warpsOfWide(pieces, spans);
      }
      slabs = (m + 8 * shape.xTiles - 1) / (8 * shape.xTiles);
    }
    auto blocksOf = [&](int64_t n) {
      int64_t each = kTileRows * (few ? shape.tiles : shape.warps * shape.tiles);
      return (n + each - 1) / each;
    };
    // Blocks, but for those that share columns: as it mostly is, at most, and of this call.
    int64_t shared = 0, most = 0, here = 0;
    for (const Piece &piece : pieces) {
      shared += slabs * blocksOf(piece.typical);
      most += slabs * blocksOf(piece.most);
      here += slabs * blocksOf(piece.n);
    }
    if (here == 0)
      return;
    bool makesT = beside && makeX;
    int64_t before = makesT ? kFirstCounters : 0; // counters
    if (wide && most <= kMostCounters) {
      shape.splits = splitsOf(shared, spans, shape.k, 256, 128 << 10, 1);
    } else if (!few && most <= kMostCounters) {
      shape.splits = splitsOf(shared, spans, shape.k, 128, manyPartials(shape) * 4, shape.xTiles <= 2 ? kAlone : 1);
    } else if (few && most + before <= kMostCounters) {
      // As many blocks as fill the device, if there is so much to share.
      int64_t wanted = kWarpsToFill * target.multiprocessors / (shared * shape.warps * shape.tiles);
      shape.splits = std::clamp<int64_t>(std::min(wanted, units / shape.warps), 1, kMostSplits);
    }
    LaunchSignature launch;
    launch.one = makeX;
    // Of small blocks ptxas spills, without a word, to fit one more.
    launch.resident = makesT && shape.tiles == 1 ? std::max<int64_t>(resident, 1) : resident;
    if (makeX || !forms.empty()) {
      launch.source = &source;
      launch.scaled = forms.size() == 2;
    }
    for (Piece &piece : pieces) {
      piece.signature.warps = shape.warps;
      piece.signature.xTiles = shape.xTiles;
      piece.signature.splits = shape.splits;
      piece.signature.tiles = shape.tiles;
    }
    if (!family)
      fillUp(pieces);
    LinearLaunch planned;
    planned.threads = 32 * shape.warps * (makeX ? shape.tiles : 1);
    planned.arguments = {{LaunchArgument::Rows}};
    int64_t blocks = 0;
    if (makesT) {
      shapeFirsts(launch, shape);
      planned.arguments.push_back(constant(firstsBegin(launch, shape, here)));
    }
    if (shape.splits > 1 || makesT) {
      plan.counters = std::max(plan.counters, before + (shape.splits > 1 ? here : 0));
      planned.arguments.push_back({LaunchArgument::Counters});
    }
    if (shape.splits > 1) {
      int64_t numbers = makeX ? onePartials(shape.tiles) : few ? kFewPartials : manyPartials(shape);
      planned.arguments.push_back(allocate(here * shape.splits * numbers * 4));
    }
    if (makesT) {
      planned.arguments.push_back(allocate(launch.firstUnits() * kTileRows * 4));
      for (const First &first : firsts) {
        planned.arguments.push_back(first.t);
        for (int64_t component : first.components)
          planned.arguments.push_back({LaunchArgument::Weight, component});
      }
    }
    if (launch.source) {
      planned.arguments.append(sourceArguments());
      planned.arguments.append(forms.begin(), forms.end());
    }
    for (const Piece &piece : pieces) {
      launch.pieces.push_back(piece.signature);
      if (&piece != &pieces.front())
        planned.arguments.push_back(constant(blocks));
      addArguments(piece, planned.arguments, !launch.source);
      blocks += blocksOf(piece.n);
    }
    auto create = [&](StringRef schedule, int64_t sharedBytes, auto emit) {
      planned.kernel =
          getOrCreateKernel(builder, loc, module, launch, schedule, sharedBytes, emit,
                            [&](DeviceBuilder &b, const KernelArguments &own) { emitFirstFactors(b, launch, own); });
    };
    if (makeX) {
      planned.grid = {blocks + launch.firstBlocks, shape.splits, 1};
      create("one", oneSharedBytes(shape),
             [&](DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &own) {
               emitOneKernel(b, launch, signature, own);
             });
    } else if (few) {
      planned.grid = {blocks, shape.splits, 1};
      create("few", fewSharedBytes(shape.warps),
             [&](DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &own) {
               emitFewKernel(b, launch, signature, own);
             });
    } else {
      planned.grid = {blocks, -8 * shape.xTiles, shape.splits};
      if (wide)
        create("wide", wideSharedBytes(), emitWideKernel);
      else
        create("many", manySharedBytes(shape), emitManyKernel);
    }
    plan.launches.push_back(planned);
  }

  /// Whether tables are looked up in memory: with sums of 64 rows of x ptxas would spill then.
  static bool readsTables(ArrayRef<Piece> pieces) {
    return llvm::any_of(pieces, [](const Piece &piece) {
      return makeDecoder(piece.signature.leaf, piece.signature.decodeContext())->readsTable();
    });
  }

  /// Whether `few`, whose tiles read x each for itself, would wait for the second level of cache: `many` reads it once
  /// for eight tiles. Of little x it takes longer to begin than it saves.
  bool isBoundByX(ArrayRef<Piece> pieces) const {
    double x = 0, weights = 0;
    for (const Piece &piece : pieces) {
      const KernelSignature &signature = piece.signature;
      auto k = static_cast<double>(signature.k);
      x += static_cast<double>(tilesOf(piece) * m * signature.bytesOfX()) * k;
      for (const Component &component : getComponents(signature.leaf, {piece.typical, signature.k}))
        weights += static_cast<double>(component.getBits()) / 8;
    }
    return x + weights > kWorthMore * target.cacheOfMemory * weights &&
           x > static_cast<double>(kLittleX * target.multiprocessors);
  }

  /// Blocks of two tiles make x half as often, where there are enough to share them out evenly. Registers: where a
  /// multiprocessor gets one block of 16 warps, lanes have as many as they like; else 64 do for tables (ptxas would
  /// take a few more), and sums by groups get smaller blocks; so do, where A is multiplied beside them, tables with
  /// scales, and all where there are several A or x is made of more than a row. Wide codes, planes and zero points
  /// always have as many as they like. (Without a word ptxas 13.0 spills some to fit a further block.) The result is
  /// LaunchSignature::resident.
  int64_t shapeOne(ArrayRef<Piece> pieces, KernelSignature &shape) const {
    int64_t tiles = 0;
    bool tables = true, groups = false, zeros = false, wide = false, crowded = false;
    for (const Piece &piece : pieces) {
      tiles += tilesOf(piece);
      std::unique_ptr<Decoder> decoder = makeDecoder(piece.signature.leaf, piece.signature.decodeContext());
      groups |= decoder->group() != 0 && decoder->group() < shape.k;
      zeros |= groups && decoder->hasZeros();
      wide |= ((decoder->bits() > 4 && decoder->bits() != 16) || isa<PlanesAttr>(piece.signature.leaf)) &&
              !piece.signature.binary;
      auto codebook = dyn_cast<CodebookAttr>(piece.signature.leaf);
      tables &= codebook && codebook.getBits() <= 4;
      crowded |= groups || (beside && codebook && decoder->group() != 0);
    }
    crowded |= beside && (firsts.size() > 1 || !source.name().empty());
    // Tiles of the multiprocessor with the most, by blocks of one and of two.
    auto most = [&](int64_t each) {
      int64_t blocks = (tiles + each - 1) / each;
      return (blocks + target.multiprocessors - 1) / target.multiprocessors * each;
    };
    shape.tiles = tiles > target.multiprocessors && !wide && 10 * most(2) <= 11 * most(1) ? 2 : 1;
    if (wide)
      return 1;
    if (shape.tiles == 1)
      return zeros ? 1 : 0;
    bool waves = tiles > 2 * target.multiprocessors;
    if (crowded && waves)
      shape.warps = std::min<int64_t>(shape.warps, 4);
    return zeros || (!waves && (groups || tables)) ? 1 : tables ? 2 : 0;
  }

  /// A's units, so many that each warp of its blocks has one (of much A, several).
  void shapeFirsts(LaunchSignature &launch, const KernelSignature &shape) const {
    int64_t parts = 1, tiles = 0;
    for (const First &first : firsts) {
      launch.firsts.push_back(first.factor);
      tiles += first.factor.tiles();
      // Half blocks, as they are multiplied; what is left behind them is one or two more.
      std::unique_ptr<Decoder> decoder = makeDecoder(first.factor.leaf, {call.k, bf16});
      parts = std::max(parts, 2 * Columns::units(*decoder, call.k));
    }
    int64_t warps = shape.warps * shape.tiles * shape.splits;
    int64_t blocks = std::max<int64_t>(target.multiprocessors / kFewOfMultiprocessors, 1);
    int64_t most = std::min({parts, kMostSpans, std::max<int64_t>(blocks * warps / tiles, 1)});
    launch.spans = static_cast<int64_t>(llvm::bit_floor(static_cast<uint64_t>(most)));
    launch.firstBlocks = std::min((launch.firstUnits() + warps - 1) / warps, blocks);
  }

  /// A's blocks begin first. But where all others run at once and leave no room for them, those would wait for A's, so
  /// they come last: then the first of the others to be done multiply A.
  int64_t firstsBegin(const LaunchSignature &launch, const KernelSignature &shape, int64_t blocks) const {
    int64_t each = launch.resident ? launch.resident : std::max<int64_t>(512 / (32 * shape.warps * shape.tiles), 1);
    int64_t room = each * target.multiprocessors, all = blocks * shape.splits;
    return all <= room && all + launch.firstBlocks * shape.splits > room ? blocks : 0;
  }

  /// Two tiles of a warp read x half as often, where that leaves enough blocks and registers suffice (so that
  /// ptxas 13.0 spills none). They do not with sums by groups, which are twice as many, unless scales can be applied in
  /// place and groups are long; and not with wide codes beside scales of groups or tables in memory.
  void shapeMany(ArrayRef<Piece> pieces, KernelSignature &shape) const {
    bool crowded = false;
    int64_t blocks = 0, slabs = (m + 63) / 64;
    for (const Piece &piece : pieces) {
      std::unique_ptr<Decoder> decoder = makeDecoder(piece.signature.leaf, piece.signature.decodeContext());
      int64_t group = decoder->group(), bits = decoder->bits();
      bool groups = group != 0 && group < shape.k;
      int64_t shortest = decoder->hasZeros() ? 128 : 64;
      crowded |= piece.signature.a8 && decoder->zerosApart();
      crowded |= groups && (piece.signature.a8 || !decoder->hasHalfScales() || group % shortest != 0);
      crowded |= bits > 16 || (bits > 4 && bits < 16 && (groups || decoder->readsTable()));
      blocks += slabs * ((tilesOf(piece) + 2 * shape.warps - 1) / (2 * shape.warps));
    }
    if (shape.xTiles == 8 && !crowded && 4 * blocks >= 3 * target.multiprocessors)
      shape.tiles = 2;
  }

  /// Whether `wide` has kernels for all that reads x, which lies packed in one way.
  bool isWide(const LinearPieces &parts) const {
    auto fits = [&](WeightEncoding leaf) { return fitsWide(*makeDecoder(leaf, {call.k, bf16}), call.k); };
    return llvm::all_of(parts.pieces, [&](const LinearPiece &piece) { return fits(piece.leaf); }) &&
           llvm::all_of(parts.pairs, [&](const LowRankPair &pair) { return fits(pair.factors); });
  }

  /// 16, or fewer where there are not as many tiles or where blocks would not fill the device, however they share
  /// columns.
  int64_t warpsOfWide(ArrayRef<Piece> pieces, int64_t spans) const {
    int64_t slabs = (m + 8 * kWideXTiles - 1) / (8 * kWideXTiles);
    for (int64_t warps = 16; warps > 4; warps /= 2) {
      int64_t blocks = 0;
      for (const Piece &piece : pieces)
        blocks += slabs * ((tilesOf(piece) + warps - 1) / warps);
      bool isFull = blocks * mostSplits(spans) >= target.multiprocessors;
      if (isFull && llvm::any_of(pieces, [&](const Piece &piece) { return 2 * tilesOf(piece) > warps; }))
        return warps;
    }
    return 4;
  }
  static int64_t mostSplits(int64_t spans) { return std::clamp<int64_t>(spans / 2, 1, kMostSplits); }

  /// How many blocks share columns so that the multiprocessor with most to do is done first. A block's beginning and
  /// end take about as long as `idle` columns. Its sums go through L2, like the columns of x and weights, which bound
  /// it as much as the products do: 128 KiB are 370 columns. All but one of those that share columns write sums, the
  /// last reads them and writes y. `alone`: by how much a block takes longer that has a multiprocessor for itself than
  /// two that share one do for each.
  int64_t splitsOf(int64_t blocks, int64_t spans, int64_t k, int64_t idle, int64_t sumBytes, double alone) const {
    int64_t best = 1;
    double least = std::numeric_limits<double>::infinity();
    for (int64_t splits = 1; splits <= mostSplits(spans); ++splits) {
      int64_t waves = (blocks * splits + target.multiprocessors - 1) / target.multiprocessors;
      int64_t columns = (spans + splits - 1) / splits * (k / std::max<int64_t>(spans, 1));
      double sums =
          static_cast<double>(blocks * (2 * splits - 1) * sumBytes) * 370 / (128 << 10) / target.multiprocessors;
      double time = static_cast<double>(waves * (columns + idle)) * (waves == 1 ? alone : 1) + sums;
      if (time < least) {
        least = time;
        best = splits;
      }
    }
    return best;
  }

  static int64_t tilesOf(const Piece &piece) { return (piece.typical + kTileRows - 1) / kTileRows; }

  /// Runs of three and more equal pieces get pieces without rows, up to a power of two, so that fewer kernels are
  /// different.
  static void fillUp(Pieces &pieces) {
    for (size_t begin = 0; begin < pieces.size();) {
      size_t end = begin + 1;
      while (end < pieces.size() && pieces[end].signature == pieces[begin].signature)
        ++end;
      Piece empty = pieces[end - 1];
      empty.n = empty.typical = empty.most = 0;
      size_t more = llvm::PowerOf2Ceil(end - begin) - (end - begin);
      pieces.insert(pieces.begin() + end, more, empty);
      begin = end + more;
    }
  }

  static void addArguments(const Piece &piece, SmallVectorImpl<LaunchArgument> &arguments, bool readsX) {
    const KernelSignature &signature = piece.signature;
    if (readsX)
      arguments.push_back(piece.x);
    if (readsX && signature.a8)
      arguments.push_back(piece.xScales);
    arguments.append({piece.y, constant(piece.n), piece.yStride});
    if (signature.permutation)
      arguments.push_back(piece.permutation);
    if (signature.biased)
      arguments.push_back(piece.bias);
    if (signature.epilogue == LinearEpilogue::Gate)
      arguments.push_back(piece.gate);
    if (signature.factors)
      arguments.push_back(piece.t);
    if (signature.scaled)
      arguments.push_back(piece.alpha);
    for (int64_t component : piece.components)
      arguments.push_back({LaunchArgument::Weight, component});
    for (int64_t component : piece.factors)
      arguments.push_back({LaunchArgument::Weight, component});
  }
};
} // namespace

Error device::checkLinear(const LinearCall &call) {
  if (call.mode != "f16" && call.mode != "bf16" && call.mode != "a8")
    return fail("no kernel", "activation mode " + call.mode, "f16, bf16 or a8", call.mode);
  LinearPieces parts = takeApart(call);
  for (const LinearPiece &piece : parts.pieces)
    if (Error error = call.mode == "a8" ? checkByteLeaf(piece.leaf, call.k) : checkLeaf(piece.leaf, call.k))
      return error;
  for (const LowRankPair &pair : parts.pairs)
    if (Error error = checkLeaf(pair.factors, call.k))
      return error;
  return Error::success();
}

Expected<LinearPlan> device::emitLinear(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                        const GPUTarget &target, const LinearCall &call, int64_t m,
                                        const RowSource *source, const LinearFamily *family) {
  if (Error error = checkLinear(call))
    return error;
  OpBuilder::InsertionGuard guard(builder);
  PlainRows rows;
  Planner planner(builder, loc, module, target, call, m, source ? *source : rows, family);
  if (Error error = planner.run())
    return error;
  return planner.take();
}
