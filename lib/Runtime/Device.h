//===- Device.h - packages on devices ---------------------------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_DEVICE_H
#define SKIM_LIB_RUNTIME_DEVICE_H

#include "skim/Runtime/DeviceStep.h"
#include "skim/Runtime/Manifest.h"

#include <memory>

namespace skim::rt {

/// `nvidia` becomes the package's target that uses most of device number
/// `device`; other names stay.
Expected<std::string> chooseTarget(const std::string &folder, const std::string &name, int device);

/// What runs the steps of a package's device target.
Expected<std::unique_ptr<DeviceStep>> openDevice(const Manifest &manifest, std::span<const DeviceWeight> weights,
                                                 int device);

} // namespace skim::rt

#endif // SKIM_LIB_RUNTIME_DEVICE_H
