// How the jumps lie over X: worked out once a call from the two shapes, shared by the CPU and the CUDA
// kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jr {

// What a kernel reads. AddJumpReLU alone has an `addend`, QuantizedJumpReLU alone a `zero_point`; its X is Q,
// and its jump the threshold.
struct Inputs {
  const void *x, *addend, *jump, *zero_point;
};

// Element i of X is compared with jump[(i / inner) % channels].
struct Layout {
  int64_t count;           // elements in X
  int64_t channels;        // elements in jump; 1 is one jump for all of X
  int64_t inner;           // consecutive elements of X that share a jump
  bool zero_each = false;  // one zero point for each threshold, not one for all of Q
};

struct Shape {
  const int64_t* dims;
  std::size_t rank;
};

// What an op calls X and the jump.
struct Names {
  const char *x, *jump;
};

// Fills in `layout` and returns true, or writes a sentence into `why_not` and returns false. `jump` must
// broadcast to `x` without changing its shape, and at most one of its axes may be other than 1.
bool make_layout(Shape x, Shape jump, Names names, Layout* layout, char* why_not, std::size_t why_not_size);

}  // namespace jr
