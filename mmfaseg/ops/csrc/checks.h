// Argument checks and type dispatch for the kernels of all devices.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace mmfaseg {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Throws std::runtime_error, in Python RuntimeError, with the concatenated
// parts of `message`. The public Python functions raise ValueError or TypeError
// before; these checks are for callers of torch.ops.
template <typename... Parts>
void check(bool holds, const Parts&... message) {
  if (!holds) {
    std::ostringstream text;
    (text << ... << message);
    throw std::runtime_error(text.str());
  }
}

inline std::string to_string(const Tensor& tensor) {
  std::ostringstream text;
  text << '(';
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    text << (i ? ", " : "") << tensor.size(i);
  }
  text << ')';
  return text.str();
}

inline void check_shape(const char* name, const Tensor& tensor,
                        std::initializer_list<int64_t> shape) {
  bool equal = tensor.dim() == static_cast<int64_t>(shape.size());
  std::ostringstream wanted;
  int64_t i = 0;
  for (int64_t size : shape) {
    equal = equal && tensor.size(i) == size;
    wanted << (i++ ? ", " : "") << size;
  }
  check(equal, name, " must have the shape (", wanted.str(), "), but has ",
        to_string(tensor));
}

inline void check_same_device(const char* name, const Tensor& tensor,
                              const Tensor& other) {
  check(tensor.is_cuda() == other.is_cuda() &&
            tensor.get_device_index() == other.get_device_index(),
        name, " must be on the device of the first argument");
}

// Checks that a type is one of the four supported types.
inline void check_supported(const char* name, ScalarType type) {
  check(type == ScalarType::Float || type == ScalarType::Double ||
            type == ScalarType::Half || type == ScalarType::BFloat16,
        name, " must be float16, bfloat16, float32 or float64");
}

// Returns the type in which sums are computed.
inline ScalarType accumulate_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// A number type as an argument, and the type in which its sums are computed.
template <typename T>
struct Number {
  using type = T;
  using sum = std::conditional_t<std::is_same_v<T, double>, double, float>;
};

// Calls run(Number<T>()) with the C++ type of `type`, a supported type.
template <typename Run>
void with_number(ScalarType type, const Run& run) {
  switch (type) {
    case ScalarType::Double:
      return run(Number<double>());
    case ScalarType::Half:
      return run(Number<c10::Half>());
    case ScalarType::BFloat16:
      return run(Number<c10::BFloat16>());
    default:
      return run(Number<float>());
  }
}

}  // namespace mmfaseg
