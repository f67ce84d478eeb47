// 512 bits, with sums of products of integers in one instruction (VNNI): Intel from Ice Lake and Cascade Lake on, AMD from
// Zen 4 on.
#include "forward.h"

#include <immintrin.h>

#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")
#endif

namespace kernels {
namespace {
namespace avx512vnni {

constexpr int kLanes = 16;
constexpr int kRows = 14;
using Floats = __m512;
using Integers = __m512i;

inline Floats loadF(const float* at) { return _mm512_loadu_ps(at); }
inline void storeF(float* at, Floats x) { _mm512_storeu_ps(at, x); }
inline Floats setF(float x) { return _mm512_set1_ps(x); }
inline Floats addF(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subF(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mulF(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fmaF(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats maxF(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats minF(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline float sumOf(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largestOf(Floats x) { return _mm512_reduce_max_ps(x); }
inline Floats roundF(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats powerOf2(Floats n) { return _mm512_scalef_ps(_mm512_set1_ps(1), n); }
inline Integers loadI(const int32_t* at) { return _mm512_loadu_si512(at); }
inline Floats toFloats(Integers x) { return _mm512_cvtepi32_ps(x); }
inline Integers setGroup(const int8_t* at) {
  int32_t bits;
  __builtin_memcpy(&bits, at, 4);
  return _mm512_set1_epi32(bits);
}
inline Integers add16(Integers sum, Integers a, Integers b) { return _mm512_dpwssd_epi32(sum, a, b); }
inline Integers add8(Integers sum, Integers a, Integers b) { return _mm512_dpbusd_epi32(sum, a, b); }
inline void store16(int16_t* at, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
}
inline void store8(uint8_t* at, Floats x) {
  const __m512i integers = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi32_epi8(integers));
}
inline Floats widen8(const int8_t* at) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
}

#include "forward-pass.h"

}  // namespace avx512vnni
}  // namespace

const Instructions kAvx512Vnni = {
    "avx512-vnni",
    [] {
      return bool(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512vnni"));
    },
    avx512vnni::kColumns,
    avx512vnni::forward<Together>,
    avx512vnni::forward<Alone>,
};

}  // namespace kernels

#if defined(__clang__)
#pragma clang attribute pop
#endif
