#include "Kernel.h"

#include <cmath>

float skim::sim::evaluateMath(uint32_t function, float a, float b) {
  switch (function) {
  case SKIM_SIM_EXP:
    return std::exp(a);
  case SKIM_SIM_EXP2:
    return std::exp2(a);
  case SKIM_SIM_EXPM1:
    return std::expm1(a);
  case SKIM_SIM_LOG:
    return std::log(a);
  case SKIM_SIM_LOG2:
    return std::log2(a);
  case SKIM_SIM_LOG10:
    return std::log10(a);
  case SKIM_SIM_LOG1P:
    return std::log1p(a);
  case SKIM_SIM_SIN:
    return std::sin(a);
  case SKIM_SIM_COS:
    return std::cos(a);
  case SKIM_SIM_TANH:
    return std::tanh(a);
  case SKIM_SIM_ERF:
    return std::erf(a);
  case SKIM_SIM_RSQRT:
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(a)));
  case SKIM_SIM_POW:
    return std::pow(a, b);
  default:
    return std::atan2(a, b);
  }
}
