/* Kernels for processors with AVX-512, called through ctypes by widemax/native.py, which checks all arguments.

   No function allocates, keeps anything between calls, or starts a thread. Threads that call one with the same
   arguments share its work: each takes the part at `next` until none is left, so that one which is kept waiting takes
   fewer. Matrices are dense and row-major.
   Shapes: B rows, D dimensions, C classes (or vectors), 64 of which are a block. */

/* Raised whenever a function changes what it takes or gives. */
enum { ABI = 5 };

#if !defined(__x86_64__)

int widemax_native_abi(void) { return 0; }

#else

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { BLOCK = 64, LANES = 16, CODES = 64 };
/* Weights are asked for this long before they are needed: the processor's own guess crosses no page. */
enum { AHEAD_BYTES = 4096 };

/* The first of the next `part` things of a work, which no other thread is given. */
static inline long taken(long *next, long part) { return __atomic_fetch_add(next, part, __ATOMIC_RELAXED); }
static inline long smaller(long a, long b) { return a < b ? a : b; }

/* The ABI of this library, or 0 where the processor cannot run it. */
int widemax_native_abi(void) {
    __builtin_cpu_init();
    int can_run = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512vnni");
    return can_run ? ABI : 0;
}

/* Sums over the lanes of 16 vectors at once: lane i of the result is the sum of x[i]. Each step adds the halves
   (then quarters, ...) of two vectors and keeps both results in one. All 16 sums take the same tree of
   additions, so that equal vectors have equal sums, bit for bit, wherever they stand. */
#define DEFINE_LANE_SUMS(NAME, T, ADD, TO_PS, FROM_PS)                                                          \
    INLINE T NAME(T *x) {                                                                                       \
        const __m512i quarters = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27); \
        const __m512i singles = _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);   \
        for (int i = 0; i < 8; i++)                                                                             \
            x[i] = ADD(FROM_PS(_mm512_mask_blend_ps(0xFF00, TO_PS(x[i]), TO_PS(x[i + 8]))),                     \
                       FROM_PS(_mm512_shuffle_f32x4(TO_PS(x[i]), TO_PS(x[i + 8]), 0x4E)));                      \
        for (int i = 0; i < 4; i++)                                                                             \
            x[i] = ADD(FROM_PS(_mm512_mask_blend_ps(0xF0F0, TO_PS(x[i]), TO_PS(x[i + 4]))),                     \
                       FROM_PS(_mm512_permutex2var_ps(TO_PS(x[i]), quarters, TO_PS(x[i + 4]))));                \
        for (int i = 0; i < 2; i++)                                                                             \
            x[i] = ADD(FROM_PS(_mm512_mask_blend_ps(0xCCCC, TO_PS(x[i]), TO_PS(x[i + 2]))),                     \
                       FROM_PS(_mm512_shuffle_ps(TO_PS(x[i]), TO_PS(x[i + 2]), 0x4E)));                         \
        return ADD(FROM_PS(_mm512_mask_blend_ps(0xAAAA, TO_PS(x[0]), TO_PS(x[1]))),                             \
                   FROM_PS(_mm512_permutex2var_ps(TO_PS(x[0]), singles, TO_PS(x[1]))));                         \
    }
#define SAME(x) (x)
DEFINE_LANE_SUMS(float_lane_sums, __m512, _mm512_add_ps, SAME, SAME)
DEFINE_LANE_SUMS(int_lane_sums, __m512i, _mm512_add_epi32, _mm512_castsi512_ps, _mm512_castps_si512)

/* The lanes that hold the products of row r with `count` of the 16 / rows classes. */
INLINE __mmask16 lanes_of(int r, int count, int rows) { return ((1u << count) - 1) << (r * (LANES / rows)); }

/* Lane r * (16 / rows) + c: row r of `hidden` times class c, for up to 16 / rows classes. A product is 16 sums of
   every 16th term, fused multiply-adds in order of d, and the tree above: its error is at most
   (D / 16 + 5) 2^-24 sum |h_d w_d|, and it is the same whichever other rows and classes are asked for. */
INLINE __m512 float_products(const float *hidden, const float *weight, long dim, long padded, int rows, int count) {
    __m512 sums[LANES];
    for (int i = 0; i < LANES; i++) sums[i] = _mm512_setzero_ps();
    for (long d = 0; d < dim; d += LANES) {
        __mmask16 inside = dim - d >= LANES ? 0xFFFF : (1u << (dim - d)) - 1;
        __m512 h[4];
        for (int r = 0; r < rows; r++) h[r] = _mm512_loadu_ps(hidden + r * padded + d);
        for (int c = 0; c < LANES / rows; c++) {
            const float *place = weight + (c < count ? c : count - 1) * dim + d;
            __m512 w = _mm512_maskz_loadu_ps(inside, place);
            _mm_prefetch((const char *)place + AHEAD_BYTES, _MM_HINT_T0);
            for (int r = 0; r < rows; r++) {
                int i = r * (LANES / rows) + c;
                sums[i] = _mm512_fmadd_ps(h[r], w, sums[i]);
            }
        }
    }
    return float_lane_sums(sums);
}

INLINE void float_rows(const float *hidden, const float *weight, const float *bias, long num_rows, long num_classes,
                       long dim, long stride, float *logits, int rows) {
    long padded = (dim + LANES - 1) / LANES * LANES;
    for (long c = 0; c < num_classes; c += LANES / rows) {
        int count = smaller(num_classes - c, LANES / rows);
        for (long first = 0; first < num_rows; first += rows) {
            __m512 products = float_products(hidden + first * padded, weight + c * dim, dim, padded, rows, count);
            for (int r = 0; r < rows && first + r < num_rows; r++) {
                __mmask16 own = lanes_of(r, count, rows);
                long shift = r * (LANES / rows);
                __m512 b = bias ? _mm512_maskz_loadu_ps(own, bias + c - shift) : _mm512_setzero_ps();
                _mm512_mask_storeu_ps(logits + (first + r) * stride + c - shift, own, _mm512_add_ps(products, b));
            }
        }
    }
}

/* logits[b, c] = hidden[b] . weight[c] + bias[c], weights read once for all rows. `hidden` has a multiple of 16
   columns and of 4 rows (but 1 and 2 stay), zeros beyond its own; rows of logits are `stride` apart. */
TARGET void widemax_products(const float *hidden, const float *weight, const float *bias, long num_rows,
                             long num_classes, long dim, long stride, float *logits, long part, long *next) {
    for (long c; (c = taken(next, part)) < num_classes;) {
        const float *w = weight + c * dim, *b = bias ? bias + c : bias;
        long count = smaller(part, num_classes - c);
        if (num_rows == 1) float_rows(hidden, w, b, num_rows, count, dim, stride, logits + c, 1);
        else if (num_rows == 2) float_rows(hidden, w, b, num_rows, count, dim, stride, logits + c, 2);
        else float_rows(hidden, w, b, num_rows, count, dim, stride, logits + c, 4);
    }
}

/* The same for 8-bit codes, exact: sums are of 32 bits, which the caller's codes fit in. The processor multiplies
   unsigned by signed numbers, so 128 is added to the codes and offset[b] = 128 sum_d query[b, d] taken away. */
INLINE __m512i code_products(const int8_t *query, const int8_t *codes, long dim, long padded, int rows) {
    __m512i sums[LANES];
    for (int i = 0; i < LANES; i++) sums[i] = _mm512_setzero_si512();
    for (long d = 0; d < dim; d += CODES) {
        __mmask64 inside = dim - d >= CODES ? ~0ull : (1ull << (dim - d)) - 1;
        __m512i q[4];
        for (int r = 0; r < rows; r++) q[r] = _mm512_loadu_si512(query + r * padded + d);
        for (int c = 0; c < LANES / rows; c++) {
            const int8_t *place = codes + c * dim + d;
            __m512i x = _mm512_xor_si512(_mm512_maskz_loadu_epi8(inside, place), _mm512_set1_epi8(-128));
            _mm_prefetch((const char *)place + AHEAD_BYTES, _MM_HINT_T0);
            for (int r = 0; r < rows; r++) {
                int i = r * (LANES / rows) + c;
                sums[i] = _mm512_dpbusd_epi32(sums[i], x, q[r]);
            }
        }
    }
    return int_lane_sums(sums);
}

INLINE void code_rows(const int8_t *query, const int8_t *codes, const int32_t *offset, long num_rows, long num_codes,
                      long dim, long stride, int32_t *products, int32_t *maxima, int rows) {
    long padded = (dim + CODES - 1) / CODES * CODES;
    for (long block = 0; block < num_codes / BLOCK; block++) {
        for (long first = 0; first < num_rows; first += rows) {
            __m512i largest[4];
            for (int r = 0; r < rows; r++) largest[r] = _mm512_set1_epi32(INT32_MIN);
            for (long c = block * BLOCK; c < (block + 1) * BLOCK; c += LANES / rows) {
                __m512i sums = code_products(query + first * padded, codes + c * dim, dim, padded, rows);
                for (int r = 0; r < rows && first + r < num_rows; r++) {
                    __mmask16 own = lanes_of(r, LANES / rows, rows);
                    __m512i exact = _mm512_sub_epi32(sums, _mm512_set1_epi32(offset[first + r]));
                    largest[r] = _mm512_mask_max_epi32(largest[r], own, largest[r], exact);
                    _mm512_mask_storeu_epi32(products + (first + r) * stride + c - r * (LANES / rows), own, exact);
                }
            }
            for (int r = 0; r < rows && first + r < num_rows; r++)
                maxima[(first + r) * (stride / BLOCK) + block] = _mm512_reduce_max_epi32(largest[r]);
        }
    }
}

/* products[b, c] = query[b] . codes[c], and the largest of each block. `query` has a multiple of 64 columns, and of
   4 rows unless it has 1; rows of products are `stride` apart, and those of maxima stride / 64. A part is of whole
   blocks. */
TARGET void widemax_code_products(const int8_t *query, const int8_t *codes, const int32_t *offset, long num_rows,
                                  long num_codes, long dim, long stride, int32_t *products, int32_t *maxima,
                                  long part, long *next) {
    for (long c; (c = taken(next, part)) < num_codes;) {
        const int8_t *x = codes + c * dim;
        int32_t *largest = maxima + c / BLOCK;
        long count = smaller(part, num_codes - c);
        if (num_rows == 1) code_rows(query, x, offset, num_rows, count, dim, stride, products + c, largest, 1);
        else code_rows(query, x, offset, num_rows, count, dim, stride, products + c, largest, 4);
    }
}

/* e^x within 2^-22 of itself, and 0 below 2^-125, whose products would be numbers below the normal ones, which are
   slow: x = n log 2 + r, and the polynomial of Cephes for e^r. NaN stays NaN; what is too large is NaN or infinite. */
INLINE __m512 exp_or_zero(__m512 x) {
    __mmask16 is_normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-86.64340f), _CMP_NLE_UQ);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    return _mm512_maskz_scalef_ps(is_normal, _mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

/* Eight float64 sums, and the 16 lanes of x added to them. */
INLINE __m512d added(__m512d sums, __m512 x) {
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    return _mm512_add_pd(sums, _mm512_add_pd(low, high));
}

/* Of each row of `width` logits, a multiple of 64: the largest of each block, and with powers 1 or 2 of the row
   shift = max(shift, its largest), sum = sum of e^(logit - shift), and with powers 2 squares = sum of the squares
   of the same; what sum and squares held before counts too. Four terms are added in float32, the rest in float64.
   NaN among a block's logits is its largest. */
TARGET void widemax_blocks(const float *logits, long num_rows, long width, int powers, float *maxima, float *shift,
                           double *sum, double *squares, long *next) {
    for (long row; (row = taken(next, 1)) < num_rows;) {
        __m512d sums = _mm512_setzero_pd(), square_sums = _mm512_setzero_pd();
        for (long block = 0; block < width / BLOCK; block++) {
            __m512 x[4], e[4];
            __mmask16 is_nan = 0;
            for (int i = 0; i < 4; i++) {
                x[i] = _mm512_loadu_ps(logits + row * width + block * BLOCK + i * LANES);
                is_nan |= _mm512_cmp_ps_mask(x[i], x[i], _CMP_UNORD_Q);
            }
            __m512 largest = _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
            float maximum = is_nan ? NAN : _mm512_reduce_max_ps(largest);
            maxima[row * (width / BLOCK) + block] = maximum;
            if (!powers) continue;
            if (!(maximum <= shift[row])) {
                double scale = exp((double)shift[row] - maximum);
                shift[row] = maximum;
                sums = _mm512_mul_pd(sums, _mm512_set1_pd(scale));
                sum[row] *= scale;
                square_sums = _mm512_mul_pd(square_sums, _mm512_set1_pd(scale * scale));
                squares[row] *= scale * scale;
            }
            for (int i = 0; i < 4; i++) e[i] = exp_or_zero(_mm512_sub_ps(x[i], _mm512_set1_ps(shift[row])));
            sums = added(sums, _mm512_add_ps(_mm512_add_ps(e[0], e[1]), _mm512_add_ps(e[2], e[3])));
            if (powers == 1) continue;
            for (int i = 0; i < 4; i++) e[i] = _mm512_mul_ps(e[i], e[i]);
            square_sums = added(square_sums, _mm512_add_ps(_mm512_add_ps(e[0], e[1]), _mm512_add_ps(e[2], e[3])));
        }
        if (!powers) continue;
        sum[row] += _mm512_reduce_add_pd(sums);
        squares[row] += _mm512_reduce_add_pd(square_sums);
    }
}

/* The lanes at d of `width` numbers. */
INLINE __mmask16 lanes_inside(long width, long d) {
    return width - d >= LANES ? 0xFFFF : width > d ? (1u << (width - d)) - 1 : 0;
}

/* The logits at i of a row of 32 or, bfloat16, 16 bits, and their biases; -inf beyond the row. */
INLINE __m512 logits_at(const void *values, int is_bfloat16, const float *bias, long width, long i) {
    __mmask16 inside = lanes_inside(width, i);
    __m512 none = _mm512_set1_ps(-INFINITY), x;
    if (is_bfloat16) {
        __m256i bits = _mm256_maskz_loadu_epi16(inside, (const uint16_t *)values + i);
        x = _mm512_mask_mov_ps(none, inside, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
    } else
        x = _mm512_mask_loadu_ps(none, inside, (const float *)values + i);
    return bias ? _mm512_add_ps(x, _mm512_maskz_loadu_ps(inside, bias + i)) : x;
}

/* To the nearest bfloat16, of two as near the even one. */
INLINE __m256i rounded(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

INLINE void exponentials(void *values, int is_bfloat16, const float *bias, long width, int looks, float *shift,
                         float *sum) {
    if (looks) {
        __m512 largest = _mm512_set1_ps(*shift);
        for (long i = 0; i < width; i += LANES)
            largest = _mm512_max_ps(largest, logits_at(values, is_bfloat16, bias, width, i));
        *shift = _mm512_reduce_max_ps(largest);
    }
    __m512d sums = _mm512_setzero_pd();
    for (long i = 0; i < width; i += LANES) {
        __m512 x = logits_at(values, is_bfloat16, bias, width, i);
        __m512 e = exp_or_zero(_mm512_sub_ps(x, _mm512_set1_ps(*shift)));
        sums = added(sums, e);
        __mmask16 inside = lanes_inside(width, i);
        if (is_bfloat16) _mm256_mask_storeu_epi16((uint16_t *)values + i, inside, rounded(e));
        else _mm512_mask_storeu_ps((float *)values + i, inside, e);
    }
    *sum = _mm512_reduce_add_pd(sums);
}

/* Logits without their biases become e^(logit + bias - shift), in 32 or, bfloat16, 16 bits; sum = their sum before
   they are rounded. Where it looks, shift = max(shift, largest logit) first. */
TARGET void widemax_exponentials(void *values, int is_bfloat16, const float *bias, long num_rows, long width,
                                 int looks, float *shift, float *sum, long part, long *next) {
    for (long first; (first = taken(next, part)) < num_rows;)
        for (long row = first; row < smaller(first + part, num_rows); row++) {
            if (is_bfloat16)
                exponentials((uint16_t *)values + row * width, 1, bias, width, looks, shift + row, sum + row);
            else exponentials((float *)values + row * width, 0, bias, width, looks, shift + row, sum + row);
        }
}

/* The exact loss of a softmax and its gradient, whose logits exist in tiles of GROUP classes by TILE rows alone. */
enum { TILE = 64, GROUP = 48, STRIP = 6, VECTORS = TILE / LANES, MOST_ROWS = 2048 };

/* The logits s of all classes for num_blocks blocks of TILE rows, and what has no part in their sums. */
typedef struct {
    /* [C, D], and [C] or NULL. */
    const float *weight, *bias;
    /* [blocks, D, TILE]: the hidden vectors, those of a block side by side. */
    const float *columns;
    /* The row and the class of each target, in the order of group, row; where the targets of a group begin. */
    const int64_t *target_rows, *target_ids, *group_starts;
    /* NULL, or where the first pass leaves the tiles for the second, which computes them again otherwise. */
    float *kept;
    /* Classes of a slice, a multiple of GROUP: what one thread does, so that threads change no sum. */
    long num_blocks, num_classes, dim, slice;
} Logits;

/* sums[r] += sum over k of a[r a_row + k a_step] times the TILE numbers at b + k b_step. */
INLINE void multiply(const float *a, long a_row, long a_step, const float *b, long b_step, long steps,
                     __m512 (*sums)[VECTORS], int rows) {
    for (long k = 0; k < steps; k++) {
        __m512 x[VECTORS];
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) x[i] = _mm512_loadu_ps(b + k * b_step + i * LANES);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512 y = _mm512_set1_ps(a[r * a_row + k * a_step]);
#pragma GCC unroll 4
            for (int i = 0; i < VECTORS; i++) sums[r][i] = _mm512_fmadd_ps(y, x[i], sums[r][i]);
        }
    }
}

/* `rows` rows of TILE numbers += the same product. */
INLINE void add_product(const float *a, long a_row, long a_step, const float *b, long steps, float *to, int rows) {
    __m512 sums[STRIP][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) sums[r][i] = _mm512_loadu_ps(to + r * TILE + i * LANES);
    multiply(a, a_row, a_step, b, TILE, steps, sums, rows);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) _mm512_storeu_ps(to + r * TILE + i * LANES, sums[r][i]);
}

INLINE void logits_of(const Logits *x, long c, const float *columns, float *to, int rows) {
    __m512 sums[STRIP][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) sums[r][i] = _mm512_set1_ps(x->bias ? x->bias[c + r] : 0.0f);
    multiply(x->weight + c * x->dim, x->dim, 1, columns, TILE, x->dim, sums, rows);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) _mm512_storeu_ps(to + r * TILE + i * LANES, sums[r][i]);
}

/* tile[k, b] = s of class c + k and row b of a block, -inf for targets. */
INLINE void compute_tile(const Logits *x, long c, long count, long block, float *tile) {
    const float *columns = x->columns + block * x->dim * TILE;
    long k = 0;
    for (; k + STRIP <= count; k += STRIP) logits_of(x, c + k, columns, tile + k * TILE, STRIP);
    for (; k < count; k++) logits_of(x, c + k, columns, tile + k * TILE, 1);
    for (long p = x->group_starts[c / GROUP]; p < x->group_starts[c / GROUP + 1]; p++)
        if (x->target_rows[p] / TILE == block)
            tile[(x->target_ids[p] - c) * TILE + x->target_rows[p] % TILE] = -INFINITY;
}

/* e^(s - shift) of 16 logits. */
INLINE __m512 exp_of(const float *logits, __m512 shift) {
    return exp_or_zero(_mm512_sub_ps(_mm512_loadu_ps(logits), shift));
}

INLINE float *kept_tile(const Logits *x, long c, long count, long block) {
    return x->kept + (c * x->num_blocks + block * count) * TILE;
}

/* Of each slice of classes and each row, targets left out: shift = the largest logit, at least what it was, and
   sum += sum of e^(s - shift). GROUP terms are added in float32, the rest in float64. */
TARGET void widemax_log_sums(const Logits *x, float *shift, double *sum, long *next) {
    float own[GROUP * TILE] __attribute__((aligned(64)));
    for (long s, first; (first = (s = taken(next, 1)) * x->slice) < x->num_classes;) {
        long end = smaller(first + x->slice, x->num_classes);
        for (long c = first; c < end; c += GROUP) {
            long count = smaller(GROUP, end - c);
            for (long block = 0; block < x->num_blocks; block++) {
                float *tile = x->kept ? kept_tile(x, c, count, block) : own;
                compute_tile(x, c, count, block, tile);
                for (long b = 0; b < TILE; b += LANES) {
                    float *shifts = shift + (s * x->num_blocks + block) * TILE + b;
                    double *sums = sum + (s * x->num_blocks + block) * TILE + b;
                    __m512 before = _mm512_loadu_ps(shifts), largest = before, e = _mm512_setzero_ps();
                    for (long k = 0; k < count; k++)
                        largest = _mm512_max_ps(largest, _mm512_loadu_ps(tile + k * TILE + b));
                    __mmask16 larger = _mm512_cmp_ps_mask(largest, before, _CMP_GT_OQ);
                    if (larger) {
                        float new[LANES];
                        _mm512_storeu_ps(new, largest);
                        for (int i = 0; i < LANES; i++)
                            if (larger >> i & 1) sums[i] *= exp((double)shifts[i] - new[i]);
                        _mm512_mask_storeu_ps(shifts, larger, largest);
                    }
                    for (long k = 0; k < count; k++) e = _mm512_add_ps(e, exp_of(tile + k * TILE + b, largest));
                    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(e));
                    __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1));
                    _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), low));
                    _mm512_storeu_pd(sums + 8, _mm512_add_pd(_mm512_loadu_pd(sums + 8), high));
                }
            }
        }
    }
}

/* With G[b, c] = slope[b] e^(s - shift[b]), targets left out: hidden_grad += G weight, [slices, blocks, D / TILE,
   TILE, TILE]; weight_grad = G^T hidden, and bias_grad = the sums of G over rows, both added to what is there with
   `adds`. NULL is not computed. `hidden` is [blocks, D / TILE, TILE rows, TILE numbers], zeros beyond D. */
TARGET void widemax_loss_gradients(const Logits *x, const float *hidden, const float *shift, const float *slope,
                                   float *hidden_grad, float *weight_grad, float *bias_grad, int adds, long *next) {
    float tiles[MOST_ROWS * GROUP] __attribute__((aligned(64)));
    float weights[GROUP * TILE] __attribute__((aligned(64))), grads[GROUP * TILE] __attribute__((aligned(64)));
    long panels = (x->dim + TILE - 1) / TILE;
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* numbers below the normal ones are 0: they are slow, and too small to matter */
    for (long s, first; (first = (s = taken(next, 1)) * x->slice) < x->num_classes;) {
        long end = smaller(first + x->slice, x->num_classes);
        for (long c = first; c < end; c += GROUP) {
            long count = smaller(GROUP, end - c);
            float sums[GROUP] = {0};
            for (long block = 0; block < x->num_blocks; block++) {
                float *own = tiles + block * GROUP * TILE;
                if (!x->kept) compute_tile(x, c, count, block, own);
                const float *tile = x->kept ? kept_tile(x, c, count, block) : own;
                for (long k = 0; k < count; k++) {
                    __m512 total = _mm512_setzero_ps();
                    for (long b = 0; b < TILE; b += LANES) {
                        __m512 e = exp_of(tile + k * TILE + b, _mm512_loadu_ps(shift + block * TILE + b));
                        __m512 g = _mm512_mul_ps(e, _mm512_loadu_ps(slope + block * TILE + b));
                        _mm512_storeu_ps(own + k * TILE + b, g);
                        total = _mm512_add_ps(total, g);
                    }
                    if (bias_grad) sums[k] += _mm512_reduce_add_ps(total);
                }
            }
            if (bias_grad)
                for (long k = 0; k < count; k++) bias_grad[c + k] = sums[k] + (adds ? bias_grad[c + k] : 0.0f);
            for (long panel = 0; panel < panels; panel++) {
                long from = c * x->dim + panel * TILE, width = smaller(TILE, x->dim - panel * TILE);
                for (long k = 0; k < count; k++)
                    for (long d = 0; d < TILE; d += LANES) {
                        __mmask16 inside = lanes_inside(width, d), old = adds && weight_grad ? inside : 0;
                        long place = from + k * x->dim + d;
                        _mm512_store_ps(weights + k * TILE + d, _mm512_maskz_loadu_ps(inside, x->weight + place));
                        _mm512_store_ps(grads + k * TILE + d, _mm512_maskz_loadu_ps(old, weight_grad + place));
                    }
                for (long block = 0; block < x->num_blocks; block++) {
                    const float *tile = tiles + block * GROUP * TILE;
                    long at = (block * panels + panel) * TILE * TILE, k = 0;
                    if (weight_grad) {
                        for (; k + STRIP <= count; k += STRIP)
                            add_product(tile + k * TILE, TILE, 1, hidden + at, TILE, grads + k * TILE, STRIP);
                        for (; k < count; k++)
                            add_product(tile + k * TILE, TILE, 1, hidden + at, TILE, grads + k * TILE, 1);
                    }
                    if (hidden_grad) {
                        float *to = hidden_grad + s * x->num_blocks * panels * TILE * TILE + at;
                        for (long b = 0; b < TILE; b += 4)
                            add_product(tile + b, 1, TILE, weights, count, to + b * TILE, 4);
                    }
                }
                for (long k = 0; weight_grad && k < count; k++)
                    for (long d = 0; d < width; d += LANES)
                        _mm512_mask_storeu_ps(weight_grad + from + k * x->dim + d, lanes_inside(width, d),
                                              _mm512_load_ps(grads + k * TILE + d));
            }
        }
    }
    _mm_setcsr(mode);
}

/* Rows of a times b, both sparse: sums of values[p] b[ids[p]] over the entries of a row, in their order, as SciPy
   adds them. Nonzero sums are written by ascending column, those of a part of rows one after another from starts[part]
   on, and counted by row. `room` and `marks` are zeros, for each column and for each 64 columns, whole blocks of 64
   of either, and are zeros again at the end. */
TARGET void widemax_sparse_product(const int64_t *a_offsets, const int32_t *a_ids, const float *a_values,
                                   const int64_t *b_offsets, const int32_t *b_ids, const float *b_values,
                                   long num_rows, long num_blocks, const int64_t *starts, int32_t *ids, float *values,
                                   int64_t *counts, float *room, uint8_t *marks, long part, long *next) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (long first; (first = taken(next, part)) < num_rows;) {
        int64_t at = starts[first / part];
        for (long row = first; row < smaller(first + part, num_rows); row++) {
            int64_t before = at;
            for (int64_t p = a_offsets[row]; p < a_offsets[row + 1]; p++) {
                if (p + 1 < a_offsets[row + 1]) {
                    int64_t soon = b_offsets[a_ids[p + 1]];
                    _mm_prefetch((const char *)(b_ids + soon), _MM_HINT_T0);
                    _mm_prefetch((const char *)(b_values + soon), _MM_HINT_T0);
                }
                for (int64_t q = b_offsets[a_ids[p]]; q < b_offsets[a_ids[p] + 1]; q++) {
                    float product = a_values[p] * b_values[q];
                    __asm__("" : "+x"(product)); /* rounded before it is added */
                    room[b_ids[q]] += product;
                    marks[b_ids[q] / BLOCK] = 1;
                }
            }
            for (long block = 0; block < num_blocks; block += BLOCK) {
                __m512i marked = _mm512_loadu_si512(marks + block);
                for (uint64_t left = _mm512_test_epi8_mask(marked, marked); left; left &= left - 1) {
                    long column = (block + __builtin_ctzll(left)) * BLOCK;
                    for (int i = 0; i < BLOCK; i += LANES) {
                        __m512 x = _mm512_loadu_ps(room + column + i);
                        __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
                        __m512i own = _mm512_add_epi32(lanes, _mm512_set1_epi32(column + i));
                        _mm512_mask_compressstoreu_epi32(ids + at, some, own);
                        _mm512_mask_compressstoreu_ps(values + at, some, x);
                        _mm512_storeu_ps(room + column + i, _mm512_setzero_ps());
                        at += __builtin_popcount(some);
                    }
                }
                _mm512_storeu_si512(marks + block, _mm512_setzero_si512());
            }
            counts[row] = at - before;
        }
    }
}

#endif
