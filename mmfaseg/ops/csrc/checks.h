// What the kernels of every device ask of their arguments.
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

// Throws std::runtime_error, in Python RuntimeError, with the parts of
// `message` one after another. The public functions in Python check first and
// raise ValueError or TypeError; these checks are for callers of torch.ops.
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
  check(equal, name, " must have the shape (", wanted.str(), "), it has ",
        to_string(tensor));
}

inline void check_same_device(const char* name, const Tensor& tensor,
                              const Tensor& other) {
  check(tensor.is_cuda() == other.is_cuda() &&
            tensor.get_device_index() == other.get_device_index(),
        name, " must be on the device of the first argument");
}

// The four types of numbers that the operators know.
inline void check_supported(const char* name, ScalarType type) {
  check(type == ScalarType::Float || type == ScalarType::Double ||
            type == ScalarType::Half || type == ScalarType::BFloat16,
        name, " must be float16, bfloat16, float32 or float64");
}

// The type that sums are formed in.
inline ScalarType accumulate_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// A type of numbers as an argument, and the type that sums of it are formed in.
template <typename T>
struct Number {
  using type = T;
  using sum = std::conditional_t<std::is_same_v<T, double>, double, float>;
};

// Calls run(Number<T>()) with the T that `type`, a supported one, names.
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
