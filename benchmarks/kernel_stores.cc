// Other ways to store what a JumpReLU in place has changed, beside the plain one that the kernels use.
//
//     c++ -O3 -march=native -o kernel_stores benchmarks/kernel_stores.cc && ./kernel_stores
//
// Microseconds of one pass over a buffer that was just written, the best of some, in turn. "Rectified" is
// what stands behind a fused Relu: only values in (0, jump] must be cleared, and a way that stores nothing
// else writes less back.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

namespace {

using Pass = void (*)(float*, std::size_t, float);

__m256 zeroed(__m256 x, __m256 jump) {
  return _mm256_andnot_ps(_mm256_cmp_ps(x, jump, _CMP_LE_OQ), x);
}

void plain(float* x, std::size_t count, float jump) {
  const __m256 jumps = _mm256_set1_ps(jump);
  for (std::size_t i = 0; i < count; i += 32) {
    __m256 four[4];
    for (int k = 0; k < 4; ++k) four[k] = _mm256_load_ps(x + i + 8 * k);
    for (int k = 0; k < 4; ++k) _mm256_store_ps(x + i + 8 * k, zeroed(four[k], jumps));
  }
}

// Stores so many vectors if one element in them changes.
template <int vectors>
void if_any(float* x, std::size_t count, float jump) {
  const __m256 jumps = _mm256_set1_ps(jump);
  for (std::size_t i = 0; i < count; i += 8 * vectors) {
    __m256 some[vectors], changed = _mm256_setzero_ps();
    for (int k = 0; k < vectors; ++k) {
      const __m256 value = _mm256_load_ps(x + i + 8 * k);
      some[k] = zeroed(value, jumps);
      changed = _mm256_or_ps(changed, _mm256_xor_ps(value, some[k]));
    }
    if (_mm256_testz_si256(_mm256_castps_si256(changed), _mm256_castps_si256(changed))) continue;
    for (int k = 0; k < vectors; ++k) _mm256_store_ps(x + i + 8 * k, some[k]);
  }
}

// Stores the elements that change.
void masked(float* x, std::size_t count, float jump) {
#ifdef __AVX512F__
  const __m512 jumps = _mm512_set1_ps(jump);
  for (std::size_t i = 0; i < count; i += 16) {
    const __m512 value = _mm512_load_ps(x + i);
    const __mmask16 low = _mm512_cmp_ps_mask(value, jumps, _CMP_LE_OQ);
    const __mmask16 changed =
        _mm512_mask_test_epi32_mask(low, _mm512_castps_si512(value), _mm512_castps_si512(value));
    _mm512_mask_store_ps(x + i, changed, _mm512_setzero_ps());
  }
#else
  const __m256 jumps = _mm256_set1_ps(jump);
  for (std::size_t i = 0; i < count; i += 8) {
    const __m256 value = _mm256_load_ps(x + i);
    const __m256i low = _mm256_castps_si256(_mm256_cmp_ps(value, jumps, _CMP_LE_OQ));
    const __m256i zero = _mm256_cmpeq_epi32(_mm256_castps_si256(value), _mm256_setzero_si256());
    _mm256_maskstore_ps(x + i, _mm256_andnot_si256(zero, low), _mm256_setzero_ps());
  }
#endif
}

void past_the_cache(float* x, std::size_t count, float jump) {
  const __m256 jumps = _mm256_set1_ps(jump);
  for (std::size_t i = 0; i < count; i += 8) _mm256_stream_ps(x + i, zeroed(_mm256_load_ps(x + i), jumps));
  _mm_sfence();
}

const struct {
  const char* name;
  Pass pass;
} kWays[] = {{"plain", plain},
             {"64 bytes, if any", if_any<2>},
             {"128 bytes, if any", if_any<4>},
             {"masked", masked},
             {"non-temporal", past_the_cache}};
constexpr std::size_t kCount = sizeof kWays / sizeof *kWays;

const struct {
  const char* name;
  float jump;
  bool rectified;
} kCases[] = {
    {"rectified, 0.05", 0.05f, true}, {"rectified, 0.5", 0.5f, true}, {"any sign, 0.05", 0.05f, false}};

double seconds(const std::chrono::steady_clock::time_point& since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

}  // namespace

int main() {
  std::printf("| bytes | values, jump |");
  for (const auto& way : kWays) std::printf(" %s |", way.name);
  std::printf("\n|---|---|---|---|---|---|---|\n");
  std::mt19937 draw(1);
  std::normal_distribution<float> normal;
  for (const std::size_t kilobytes : {100, 400, 1600, 6400, 25600, 102400}) {
    const std::size_t count = kilobytes * 256;
    auto* const work = static_cast<float*>(std::aligned_alloc(64, count * sizeof(float)));
    std::vector<float> values(count);
    for (const auto& one : kCases) {
      for (float& value : values) value = one.rectified ? std::max(0.0f, normal(draw)) : normal(draw);
      double best[kCount];
      std::fill(best, best + kCount, 1e9);
      for (std::size_t round = 0; round < 7 + 100000 / kilobytes; ++round) {
        for (std::size_t k = 0; k < kCount; ++k) {
          std::memcpy(work, values.data(), count * sizeof(float));
          const auto start = std::chrono::steady_clock::now();
          kWays[k].pass(work, count, one.jump);
          best[k] = std::min(best[k], seconds(start));
        }
      }
      std::printf("| %zu KB | %s |", kilobytes, one.name);
      for (const double time : best) std::printf(" %.1f |", time * 1e6);
      std::printf("\n");
    }
    std::free(work);
  }
}
