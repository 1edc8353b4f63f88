// How the jumps lie over X: worked out once a call from the two shapes, shared by the CPU and the CUDA
// kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jr {

// Element i of X is compared with jump[(i / inner) % channels].
struct Layout {
  int64_t count;     // elements in X
  int64_t channels;  // elements in jump; 1 is one jump for all of X
  int64_t inner;     // consecutive elements of X that share a jump
};

struct Shape {
  const int64_t* dims;
  std::size_t rank;
};

// Fills in `layout` and returns true, or writes a sentence into `why_not` and returns false. `jump` must
// broadcast to `x` without changing its shape, and at most one of its axes may be other than 1.
bool make_layout(Shape x, Shape jump, Layout* layout, char* why_not, std::size_t why_not_size);

}  // namespace jr
