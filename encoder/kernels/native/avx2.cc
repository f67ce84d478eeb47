// 256 bits: Intel from Haswell on, AMD from Excavator on.
#include "forward.h"

#include <immintrin.h>

#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace kernels {
namespace {
namespace avx2 {

constexpr int kLanes = 8;
constexpr int kRows = 6;
using Floats = __m256;
using Integers = __m256i;

inline Integers add16(Integers sum, Integers a, Integers b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
// Pairs of products are added in 16 bits, which weights of 7 bits do not leave: 2 x 255 x 63 < 2^15.
inline Integers add8(Integers sum, Integers a, Integers b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}

inline Floats loadF(const float* at) { return _mm256_loadu_ps(at); }
inline void storeF(float* at, Floats x) { _mm256_storeu_ps(at, x); }
inline Floats setF(float x) { return _mm256_set1_ps(x); }
inline Floats addF(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats subF(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats mulF(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats fmaF(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats maxF(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats minF(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline float sumOf(Floats x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float largestOf(Floats x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
inline Floats roundF(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats powerOf2(Floats n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline Integers loadI(const int32_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
inline Floats toFloats(Integers x) { return _mm256_cvtepi32_ps(x); }
inline Integers setGroup(const int8_t* at) {
  int32_t bits;
  __builtin_memcpy(&bits, at, 4);
  return _mm256_set1_epi32(bits);
}
inline void store16(int16_t* at, Floats x) {
  const __m256i integers = _mm256_cvtps_epi32(x);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm_packs_epi32(_mm256_castsi256_si128(integers),
                                                                   _mm256_extracti128_si256(integers, 1)));
}
inline void store8(uint8_t* at, Floats x) {
  const __m256i integers = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(128));
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packus_epi16(words, words));
}
inline Floats widen8(const int8_t* at) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
}

#include "forward-pass.h"

}  // namespace avx2
}  // namespace

const Instructions kAvx2 = {
    "avx2",
    [] { return bool(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")); },
    avx2::kColumns,
    avx2::forward<Together>,
    avx2::forward<Alone>,
};

}  // namespace kernels

#if defined(__clang__)
#pragma clang attribute pop
#endif
