#include "layout.h"

#include <cstdio>

namespace jr {
namespace {

// "[2,3]", cut off where it does not fit.
struct ShapeText {
  char text[96];
  explicit ShapeText(Shape shape) {
    std::size_t used = 0;
    append(&used, "[");
    for (std::size_t axis = 0; axis < shape.rank; ++axis) {
      char number[24];
      std::snprintf(number, sizeof number, axis ? ",%lld" : "%lld", static_cast<long long>(shape.dims[axis]));
      append(&used, number);
    }
    append(&used, "]");
  }
  void append(std::size_t* used, const char* piece) {
    while (*piece && *used + 1 < sizeof text) text[(*used)++] = *piece++;
    text[*used] = '\0';
  }
};

int64_t product(const int64_t* begin, const int64_t* end) {
  int64_t result = 1;
  for (; begin != end; ++begin) result *= *begin;
  return result;
}

}  // namespace

bool make_layout(Shape x, Shape jump, Names names, Layout* layout, char* why_not, std::size_t why_not_size) {
  auto refuse = [&](const char* reason) {
    std::snprintf(why_not, why_not_size, "%s of shape %s %s %s of shape %s", names.jump, ShapeText(jump).text,
                  reason, names.x, ShapeText(x).text);
    return false;
  };
  if (jump.rank > x.rank) return refuse("has more axes than");

  const int64_t* const x_end = x.dims + x.rank;
  *layout = {product(x.dims, x_end), 1, 1};
  bool per_channel = false;
  for (std::size_t axis = 0; axis < jump.rank; ++axis) {
    const int64_t size = jump.dims[axis];
    if (size == 1) continue;
    const int64_t* const x_axis = x_end - jump.rank + axis;
    if (size != *x_axis) return refuse("does not broadcast to");
    if (per_channel) return refuse("has more than one axis other than 1; give one or one a channel for");
    per_channel = true;
    layout->channels = size;
    layout->inner = product(x_axis + 1, x_end);
  }
  return true;
}

}  // namespace jr
