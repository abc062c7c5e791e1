/* Kernels for processors with AVX-512, called through ctypes by widemax/native.py, which checks all arguments.

   No function allocates, keeps anything between calls, or starts a thread. Threads that call one with the same
   arguments share its work: each takes the part at `next` until none is left, so that one which is kept waiting takes
   fewer. Matrices are dense and row-major.
   Shapes: B rows, D dimensions, C classes (or vectors), 64 of which are a block. */

/* Raised whenever a function changes what it takes or gives. */
enum { ABI = 15 };

#if !defined(__x86_64__)

int widemax_native_abi(void) { return 0; }

#else

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Instructions of avx512bf16 come of their intrinsics alone, which stand behind widemax_multiplies_bfloat16. */
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { BLOCK = 64, LANES = 16 };
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

/* Whether the exact loss is there in bfloat16: tiles of AMX, which torch uses, are faster. */
int widemax_multiplies_bfloat16(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_supports("amx-bf16");
}

/* Sums over the lanes of 16 vectors at once: lane i of the result is the sum of x[i]. Each step adds the halves
   (then quarters, ...) of two vectors and keeps both results in one. All 16 sums take the same tree of
   additions, so that equal vectors have equal sums, bit for bit, wherever they stand. */
INLINE __m512 float_lane_sums(__m512 *x) {
    const __m512i quarters = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    const __m512i singles = _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
    for (int i = 0; i < 8; i++)
        x[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xFF00, x[i], x[i + 8]), _mm512_shuffle_f32x4(x[i], x[i + 8], 0x4E));
    for (int i = 0; i < 4; i++)
        x[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xF0F0, x[i], x[i + 4]),
                             _mm512_permutex2var_ps(x[i], quarters, x[i + 4]));
    for (int i = 0; i < 2; i++)
        x[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xCCCC, x[i], x[i + 2]), _mm512_shuffle_ps(x[i], x[i + 2], 0x4E));
    return _mm512_add_ps(_mm512_mask_blend_ps(0xAAAA, x[0], x[1]), _mm512_permutex2var_ps(x[0], singles, x[1]));
}

/* The lanes that hold the products of row r with `count` of the 16 / rows classes. */
INLINE __mmask16 first_lanes(long num) { return num >= LANES ? 0xFFFF : (1u << num) - 1; }
INLINE __mmask16 lanes_of(int r, int count, int rows) { return ((1u << count) - 1) << (r * (LANES / rows)); }

/* Lane r * (16 / rows) + c: row r of `hidden` times class c, for up to 16 / rows classes. A product is 16 sums of
   every 16th term, fused multiply-adds in order of d, and the tree above: its error is at most
   (D / 16 + 5) 2^-24 sum |h_d w_d|, and it is the same whichever other rows and classes are asked for. */
INLINE __m512 float_products(const float *hidden, const float *weight, long dim, long padded, int rows, int count) {
    __m512 sums[LANES];
    for (int i = 0; i < LANES; i++) sums[i] = _mm512_setzero_ps();
    for (long d = 0; d < dim; d += LANES) {
        __mmask16 inside = first_lanes(dim - d);
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

/* What both kernels of 4-bit codes read. Codes of -8 to 7, of which 8 is taken away again by the offset, stand in blocks
   of 64 vectors, then by 8 dimensions, then by 16 vectors: 4 bytes a vector, the lower halves of which are the first 4
   dimensions. So sums need no adding over lanes. They are of 32 bits and exact. */
typedef struct {
    const uint8_t *codes;
    const int8_t *query;    /* [B, 8 slices] */
    const int32_t *offset;  /* [B] 8 sum_d query[b, d] */
    const int8_t *whole;    /* [64 blocks, D] the same vectors by 8 bits */
    long num_rows, num_blocks, slices, dim;
} Sketch;

/* The products of a query with the vectors of a block, 16 in each of `sums`; `ahead` is how many blocks further on are
   read next. */
INLINE void sketch_products(const Sketch *x, long row, long block, long ahead, __m512i *sums) {
    const uint8_t *codes = x->codes + block * x->slices * 256, *next = codes + ahead * x->slices * 256;
    const int8_t *query = x->query + row * x->slices * 8;
    const __m512i low = _mm512_set1_epi8(15);
    __m512i more[4];
    for (int i = 0; i < 4; i++) {
        sums[i] = _mm512_set1_epi32(-x->offset[row]);
        more[i] = _mm512_setzero_si512();
    }
    for (long s = 0; s < x->slices; s++) {
        int32_t first, second;
        memcpy(&first, query + s * 8, 4);
        memcpy(&second, query + s * 8 + 4, 4);
        for (int i = 0; i < 4; i++) {
            __m512i both = _mm512_loadu_si512(codes + s * 256 + i * 64);
            _mm_prefetch((const char *)next + s * 256 + i * 64, _MM_HINT_T0);
            sums[i] = _mm512_dpbusd_epi32(sums[i], _mm512_and_si512(both, low), _mm512_set1_epi32(first));
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
            more[i] = _mm512_dpbusd_epi32(more[i], high, _mm512_set1_epi32(second));
        }
    }
    for (int i = 0; i < 4; i++) sums[i] = _mm512_add_epi32(sums[i], more[i]);
}

/* The vectors of a block whose products are at least `least`, one bit each. */
INLINE uint64_t at_least(const __m512i *sums, int32_t least) {
    uint64_t found = 0;
    for (int i = 0; i < 4; i++)
        found |= (uint64_t)_mm512_cmpge_epi32_mask(sums[i], _mm512_set1_epi32(least)) << 16 * i;
    return found;
}

/* maxima[b, g] = the largest product of query b with a vector of block g, and the first vector that has it. */
TARGET void widemax_sketch_maxima(const Sketch *x, int32_t *maxima, int64_t *places, long part, long *next) {
    for (long begin; (begin = taken(next, part)) < x->num_blocks;) {
        long end = smaller(begin + part, x->num_blocks);
        for (long block = begin; block < end; block++)
            for (long row = 0; row < x->num_rows; row++) {
                __m512i sums[4];
                sketch_products(x, row, block, 2, sums);
                __m512i pairs[] = {_mm512_max_epi32(sums[0], sums[1]), _mm512_max_epi32(sums[2], sums[3])};
                int32_t largest = _mm512_reduce_max_epi32(_mm512_max_epi32(pairs[0], pairs[1]));
                maxima[row * x->num_blocks + block] = largest;
                places[row * x->num_blocks + block] = block * BLOCK + __builtin_ctzll(at_least(sums, largest));
            }
    }
}

/* The product of a query with the 8-bit codes of a vector: the processor multiplies unsigned by signed numbers, so 128
   is added to codes. */
INLINE int32_t whole_product(const Sketch *x, long row, long place) {
    __m512i sums = _mm512_setzero_si512();
    for (long d = 0; d < x->dim; d += 64) {
        __mmask64 inside = x->dim - d >= 64 ? ~0ull : (1ull << (x->dim - d)) - 1;
        __m512i codes = _mm512_maskz_loadu_epi8(inside, x->whole + place * x->dim + d);
        __m512i query = _mm512_maskz_loadu_epi8(inside, x->query + row * x->slices * 8 + d);
        sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(codes, _mm512_set1_epi8(-128)), query);
    }
    return _mm512_reduce_add_epi32(sums) - 16 * x->offset[row];
}

/* The places of all vectors in some (row, block) pairs whose products are at least `least[pair]`, by 8 bits at least
   `whole_least[pair]`, pair after pair, and how many each pair has. Blocks and vectors lie far apart, so they are asked
   for before they are read. */
TARGET void widemax_sketch_open(const Sketch *x, const int64_t *rows, const int64_t *blocks, const int32_t *least,
                                const int32_t *whole_least, long num_pairs, int64_t *counts, int64_t *places) {
    enum { TOGETHER = 16 };
    for (long begin = 0; begin < num_pairs; begin += TOGETHER) {
        long end = smaller(begin + TOGETHER, num_pairs);
        uint64_t found[TOGETHER];
        for (long pair = begin; pair < end; pair++) {
            __m512i sums[4];
            sketch_products(x, rows[pair], blocks[pair], blocks[smaller(pair + 2, num_pairs - 1)] - blocks[pair], sums);
            found[pair - begin] = at_least(sums, least[pair]);
            for (uint64_t left = found[pair - begin]; left; left &= left - 1)
                _mm_prefetch((const char *)x->whole + (blocks[pair] * BLOCK + __builtin_ctzll(left)) * x->dim,
                             _MM_HINT_T0);
        }
        for (long pair = begin; pair < end; pair++) {
            int64_t *first = places;
            for (uint64_t left = found[pair - begin]; left; left &= left - 1) {
                long place = blocks[pair] * BLOCK + __builtin_ctzll(left);
                if (whole_product(x, rows[pair], place) >= whole_least[pair]) *places++ = place;
            }
            counts[pair] = places - first;
        }
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

/* e^x within 2^-50 of itself, for x <= 0 and NaN: a Taylor series of e^r as of exp_or_zero. */
INLINE __m512d exp_of_double(__m512d x) {
    const double inverse_factorials[] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                         1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0};
    x = _mm512_max_pd(_mm512_set1_pd(-1000.0), x); /* NaN stays NaN, and n small */
    __m512d n = _mm512_roundscale_pd(_mm512_mul_pd(x, _mm512_set1_pd(1.4426950408889634)), 0);
    __m512d r = _mm512_fnmadd_pd(n, _mm512_set1_pd(6.93147180369123816490e-01), x);
    r = _mm512_fnmadd_pd(n, _mm512_set1_pd(1.90821492927058770002e-10), r);
    __m512d p = _mm512_set1_pd(1.0 / 6227020800);
#pragma GCC unroll 13
    for (int i = 0; i < 13; i++) p = _mm512_fmadd_pd(p, r, _mm512_set1_pd(inverse_factorials[i]));
    return _mm512_scalef_pd(p, n);
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

/* Writes at i of such a row. */
INLINE void put_at(void *values, int is_bfloat16, long width, long i, __m512 x) {
    __mmask16 inside = lanes_inside(width, i);
    if (is_bfloat16) _mm256_mask_storeu_epi16((uint16_t *)values + i, inside, rounded(x));
    else _mm512_mask_storeu_ps((float *)values + i, inside, x);
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
        put_at(values, is_bfloat16, width, i, e);
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

/* log(1 + e^x) within 2^-22 of itself, with e of -|x| as max(x, 0) + e + e^2 q(e) where q is a fitted polynomial, and
   1 / (1 + e^-x), within 2^-22; both 0 below -log 2^125. NaN stays NaN. */
INLINE __m512 softplus_of(__m512 x, __m512 *sigmoid) {
    const float coefficients[] = {2.0203908905e-2f, -5.7663176209e-2f, 1.0680427402e-1f, -1.5355321765e-1f,
                                  1.9695374370e-1f, -2.4958582222e-1f, 3.3330512047e-1f, -4.9999931455e-1f};
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
    __m512 e = exp_or_zero(_mm512_or_ps(x, _mm512_set1_ps(-0.0f))), d = _mm512_add_ps(one, e);
    __m512 n = _mm512_mask_mov_ps(one, _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ), e);
    __m512 r = _mm512_rcp14_ps(d), quotient = _mm512_mul_ps(n, r);
    *sigmoid = _mm512_fmadd_ps(r, _mm512_fnmadd_ps(d, quotient, n), quotient);
    __m512 q = _mm512_set1_ps(-3.3183225896e-3f);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) q = _mm512_fmadd_ps(q, e, _mm512_set1_ps(coefficients[i]));
    return _mm512_add_ps(_mm512_max_ps(zero, x), _mm512_fmadd_ps(_mm512_mul_ps(e, e), q, e));
}

INLINE void softplus(void *values, int is_bfloat16, const float *bias, const float *factor, long width, float *sum) {
    __m512d sums = _mm512_setzero_pd();
    for (long i = 0; i < width; i += LANES) {
        __m512 sigmoid, terms = softplus_of(logits_at(values, is_bfloat16, bias, width, i), &sigmoid);
        if (factor) terms = _mm512_mul_ps(terms, _mm512_maskz_loadu_ps(lanes_inside(width, i), factor + i));
        sums = added(sums, terms);
        put_at(values, is_bfloat16, width, i, sigmoid);
    }
    *sum = _mm512_reduce_add_pd(sums);
}

/* Logits without their biases become sigmoids, in 32 or, bfloat16, 16 bits; sum = the sum of factor[i] times, or NULL,
   of log(1 + e^(logit + bias)). */
TARGET void widemax_softplus(void *values, int is_bfloat16, const float *bias, const float *factor, long num_rows,
                             long width, float *sum, long part, long *next) {
    for (long first; (first = taken(next, part)) < num_rows;)
        for (long row = first; row < smaller(first + part, num_rows); row++) {
            if (is_bfloat16) softplus((uint16_t *)values + row * width, 1, bias, factor, width, sum + row);
            else softplus((float *)values + row * width, 0, bias, factor, width, sum + row);
        }
}

/* The exact loss of a softmax, or of a sigmoid a class, and its gradient, whose logits exist in tiles of GROUP classes
   by TILE rows alone. In bfloat16 a word of 32 bits holds two neighbors of a sum, which are multiplied at once. */
enum { TILE = 64, GROUP = 48, STRIP = 6, VECTORS = TILE / LANES, MOST_ROWS = 2048 };

/* The logits s of all classes for num_blocks blocks of TILE rows, and what has no part in their sums. */
typedef struct {
    /* [C, D] in 32 or 16 bits. */
    const void *weight;
    /* [C] or NULL: added to logits, and what the terms of a class are multiplied by. */
    const float *bias, *factor;
    /* [blocks, D, TILE], or words [blocks, D / 2, TILE]: the hidden vectors, those of a block side by side. */
    const float *columns;
    /* The row and the class of each target, in the order of group, row; where the targets of a group begin. */
    const int64_t *target_rows, *target_ids, *group_starts;
    /* NULL, or where the first pass leaves the tiles for the second, which computes them again otherwise; of the width
       of weights. */
    void *kept;
    /* Classes of a slice, a multiple of GROUP: what one thread does, so that threads change no sum. */
    long num_blocks, num_classes, dim, slice;
    /* Otherwise of sigmoids, in float32. */
    long is_softmax, is_bfloat16;
} Logits;

/* sums[r] += sum over k of a[r a_row + k a_step] times the TILE numbers at b + k b_step, or of words so many pairs. */
INLINE void multiply(const float *a, long a_row, long a_step, const float *b, long b_step, long steps,
                     __m512 (*sums)[VECTORS], int rows, int words) {
    for (long k = 0; k < steps; k++) {
        __m512 x[VECTORS];
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) x[i] = _mm512_loadu_ps(b + k * b_step + i * LANES);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512 y = _mm512_set1_ps(a[r * a_row + k * a_step]);
#pragma GCC unroll 4
            for (int i = 0; i < VECTORS; i++)
                sums[r][i] = words ? _mm512_dpbf16_ps(sums[r][i], (__m512bh)y, (__m512bh)x[i])
                                   : _mm512_fmadd_ps(y, x[i], sums[r][i]);
        }
    }
}

/* `rows` rows of TILE numbers += the same product. */
INLINE void add_product(const float *a, long a_row, long a_step, const float *b, long steps, float *to, int rows,
                        int words) {
    __m512 sums[STRIP][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) sums[r][i] = _mm512_loadu_ps(to + r * TILE + i * LANES);
    multiply(a, a_row, a_step, b, TILE, steps, sums, rows, words);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) _mm512_storeu_ps(to + r * TILE + i * LANES, sums[r][i]);
}

INLINE void logits_of(const Logits *x, long c, const float *columns, float *to, int rows, int words) {
    __m512 sums[STRIP][VECTORS];
    long steps = words ? x->dim / 2 : x->dim;
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) sums[r][i] = _mm512_set1_ps(x->bias ? x->bias[c + r] : 0.0f);
    multiply((const float *)x->weight + c * steps, steps, 1, columns, TILE, steps, sums, rows, words);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) _mm512_storeu_ps(to + r * TILE + i * LANES, sums[r][i]);
}

/* tile[k, b] = s of class c + k and row b of a block, -inf for targets. */
INLINE void compute_tile(const Logits *x, long c, long count, long block, float *tile, int words) {
    const float *columns = x->columns + block * (words ? x->dim / 2 : x->dim) * TILE;
    long k = 0;
    for (; k + STRIP <= count; k += STRIP) logits_of(x, c + k, columns, tile + k * TILE, STRIP, words);
    for (; k < count; k++) logits_of(x, c + k, columns, tile + k * TILE, 1, words);
    for (long p = x->group_starts[c / GROUP]; p < x->group_starts[c / GROUP + 1]; p++)
        if (x->target_rows[p] / TILE == block)
            tile[(x->target_ids[p] - c) * TILE + x->target_rows[p] % TILE] = -INFINITY;
}

/* The same within 2^-17, by a fitted polynomial of degree 4, which is enough beside logits in bfloat16. */
INLINE __m512 exp_nearly(__m512 x) {
    __mmask16 is_normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-86.64340f), _CMP_NLE_UQ);
    __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), n = _mm512_roundscale_ps(t, 0), r = _mm512_sub_ps(t, n);
    __m512 p = _mm512_set1_ps(9.582848288e-03f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.590642989e-02f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402409911e-01f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931241751e-01f));
    return _mm512_maskz_scalef_ps(is_normal, _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f)), n);
}

/* e^(s - shift) of 16 logits. */
INLINE __m512 exp_below(__m512 logits, __m512 shift, int words) {
    __m512 x = _mm512_sub_ps(logits, shift);
    return words ? exp_nearly(x) : exp_or_zero(x);
}

/* Where a tile begins in what is kept. */
INLINE long kept_at(const Logits *x, long c, long count, long block) {
    return (c * x->num_blocks + block * count) * TILE;
}

/* Eight sums times e^x, for x <= 0. */
INLINE void scale_by_exp(double *sums, __m256 x) {
    _mm512_storeu_pd(sums, _mm512_mul_pd(_mm512_loadu_pd(sums), exp_of_double(_mm512_cvtps_pd(x))));
}

INLINE __m512 widened(const uint16_t *bits) {
    __m256i x = _mm256_loadu_si256((const __m256i *)bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

INLINE void log_sums(const Logits *x, float *shift, double *sum, long *next, int words) {
    float own[GROUP * TILE] __attribute__((aligned(64)));
    for (long s, first; (first = (s = taken(next, 1)) * x->slice) < x->num_classes;) {
        long end = smaller(first + x->slice, x->num_classes);
        for (long c = first; c < end; c += GROUP) {
            long count = smaller(GROUP, end - c);
            for (long block = 0; block < x->num_blocks; block++) {
                long at = kept_at(x, c, count, block);
                float *tile = x->kept && !words ? (float *)x->kept + at : own;
                compute_tile(x, c, count, block, tile, words);
                /* The second pass has to see the logits whose sum this one takes: those that are kept are rounded. */
                for (long i = 0; i < count * TILE && words && x->kept; i += LANES) {
                    uint16_t *bits = (uint16_t *)x->kept + at + i;
                    _mm256_storeu_si256((__m256i *)bits, (__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(own + i)));
                    _mm512_store_ps(own + i, widened(bits));
                }
                for (long b = 0; b < TILE; b += LANES) {
                    float *shifts = shift + (s * x->num_blocks + block) * TILE + b;
                    double *sums = sum + (s * x->num_blocks + block) * TILE + b;
                    __m512 before = _mm512_loadu_ps(shifts), largest = before, e = _mm512_setzero_ps(), sigmoid;
                    for (long k = 0; k < count && x->is_softmax; k++)
                        largest = _mm512_max_ps(largest, _mm512_loadu_ps(tile + k * TILE + b));
                    __mmask16 larger = _mm512_cmp_ps_mask(largest, before, _CMP_GT_OQ);
                    if (larger) {
                        _mm512_mask_storeu_ps(shifts, larger, largest);
                        __m512 fall = _mm512_maskz_sub_ps(larger, before, largest);
                        scale_by_exp(sums, _mm512_castps512_ps256(fall));
                        scale_by_exp(sums + 8, _mm512_extractf32x8_ps(fall, 1));
                    }
                    for (long k = 0; k < count; k++) {
                        __m512 logits = _mm512_loadu_ps(tile + k * TILE + b);
                        __m512 factor = _mm512_set1_ps(x->factor ? x->factor[c + k] : 1.0f);
                        e = _mm512_fmadd_ps(factor, x->is_softmax ? exp_below(logits, largest, words)
                                                                  : softplus_of(logits, &sigmoid), e);
                    }
                    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(e));
                    __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1));
                    _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), low));
                    _mm512_storeu_pd(sums + 8, _mm512_add_pd(_mm512_loadu_pd(sums + 8), high));
                }
            }
        }
    }
}

/* Of each slice of classes and each row, targets left out: shift = the largest logit, at least what it was, and
   sum += sum of factor e^(s - shift); or, of sigmoids, sum += sum of factor log(1 + e^s). GROUP terms are added in
   float32, the rest in float64. */
TARGET void widemax_log_sums(const Logits *x, float *shift, double *sum, long *next) {
    if (x->is_bfloat16) log_sums(x, shift, sum, next, 1);
    else log_sums(x, shift, sum, next, 0);
}

/* G of class c + k and 16 rows from `row` on, whose logits are given. */
INLINE __m512 slopes_of(const Logits *x, long k, __m512 logits, const float *shift, const float *slope, long row,
                        int words) {
    __m512 e;
    if (x->is_softmax) e = exp_below(logits, _mm512_loadu_ps(shift + row), words);
    else softplus_of(logits, &e);
    e = _mm512_mul_ps(e, _mm512_loadu_ps(slope + row));
    return x->factor ? _mm512_mul_ps(e, _mm512_set1_ps(x->factor[k])) : e;
}

/* Two vectors of 16 bits as one of words. */
INLINE __m512i interleaved(__m512i both) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                           5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, both);
}

/* G of a tile, in bfloat16: [GROUP, TILE], and words [GROUP / 2, TILE] of two classes each; sums[k] += its rows. */
INLINE void slope_words(const Logits *x, long c, long count, long block, const float *shift, const float *slope,
                        uint16_t *rows, float *words, float *sums) {
    float own[GROUP * TILE] __attribute__((aligned(64)));
    const uint16_t *kept = (const uint16_t *)x->kept + kept_at(x, c, count, block);
    if (!x->kept) compute_tile(x, c, count, block, own, 1);
    for (long k = 0; k < count; k += 2) {
        __m512 total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (long b = 0; b < TILE; b += LANES) {
            __m512 g[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int i = 0; i < 2 && k + i < count; i++) {
                long at = (k + i) * TILE + b;
                if (x->kept) _mm_prefetch((const char *)(kept + at) + AHEAD_BYTES, _MM_HINT_T0);
                __m512 logits = x->kept ? widened(kept + at) : _mm512_load_ps(own + at);
                g[i] = slopes_of(x, c + k + i, logits, shift, slope, block * TILE + b, 1);
                total[i] = _mm512_add_ps(total[i], g[i]);
            }
            __m512i both = (__m512i)_mm512_cvtne2ps_pbh(g[1], g[0]);
            _mm256_store_si256((__m256i *)(rows + k * TILE + b), _mm512_castsi512_si256(both));
            _mm256_store_si256((__m256i *)(rows + (k + 1) * TILE + b), _mm512_extracti64x4_epi64(both, 1));
            _mm512_store_si512(words + k / 2 * TILE + b, interleaved(both));
        }
        sums[k] += _mm512_reduce_add_ps(total[0]);
        sums[k + 1] += _mm512_reduce_add_ps(total[1]);
    }
}

/* The same in float32, [GROUP, TILE]. */
INLINE void slope_numbers(const Logits *x, long c, long count, long block, const float *shift, const float *slope,
                          float *rows, float *sums) {
    const float *tile = x->kept ? (const float *)x->kept + kept_at(x, c, count, block) : rows;
    if (!x->kept) compute_tile(x, c, count, block, rows, 0);
    for (long k = 0; k < count; k++) {
        __m512 total = _mm512_setzero_ps();
        for (long b = 0; b < TILE; b += LANES) {
            __m512 logits = _mm512_loadu_ps(tile + k * TILE + b);
            __m512 g = slopes_of(x, c + k, logits, shift, slope, block * TILE + b, 0);
            _mm512_storeu_ps(rows + k * TILE + b, g);
            total = _mm512_add_ps(total, g);
        }
        sums[k] += _mm512_reduce_add_ps(total);
    }
}

/* TILE numbers of `width` of each class from `place` on, zeros beyond; in bfloat16 words of two classes each. */
INLINE void load_weights(const Logits *x, long place, long count, long width, float *to, int words) {
    const uint16_t *bits = (const uint16_t *)x->weight + place;
    for (long k = 0; k < count && !words; k++)
        for (long d = 0; d < TILE; d += LANES) {
            const float *numbers = (const float *)x->weight + place + k * x->dim + d;
            _mm512_store_ps(to + k * TILE + d, _mm512_maskz_loadu_ps(lanes_inside(width, d), numbers));
        }
    for (long k = 0; k < count && words; k += 2)
        for (long d = 0; d < TILE; d += LANES) {
            __mmask16 inside = lanes_inside(width, d), second = k + 1 < count ? inside : 0;
            __m256i low = _mm256_maskz_loadu_epi16(inside, bits + k * x->dim + d);
            __m256i high = _mm256_maskz_loadu_epi16(second, bits + (k + 1) * x->dim + d);
            __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
            _mm512_store_si512(to + k / 2 * TILE + d, interleaved(both));
        }
}

INLINE void loss_gradients(const Logits *x, const float *hidden, const float *shift, const float *slope,
                           float *hidden_grad, float *weight_grad, float *bias_grad, int adds, long *next, int words) {
    /* G of all rows: numbers, or of each block 16 bits and words. */
    float tiles[MOST_ROWS * GROUP] __attribute__((aligned(64)));
    float weights[GROUP * TILE] __attribute__((aligned(64))), grads[GROUP * TILE] __attribute__((aligned(64)));
    long panels = (x->dim + TILE - 1) / TILE, half = words ? 2 : 1;
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* numbers below the normal ones are 0: they are slow, and too small to matter */
    for (long s, first; (first = (s = taken(next, 1)) * x->slice) < x->num_classes;) {
        long end = smaller(first + x->slice, x->num_classes);
        for (long c = first; c < end; c += GROUP) {
            long count = smaller(GROUP, end - c);
            float sums[GROUP] = {0};
            for (long block = 0; block < x->num_blocks; block++) {
                float *own = tiles + block * GROUP * TILE, *pairs = own + GROUP * TILE / 2;
                if (words) slope_words(x, c, count, block, shift, slope, (uint16_t *)own, pairs, sums);
                else slope_numbers(x, c, count, block, shift, slope, own, sums);
            }
            if (bias_grad)
                for (long k = 0; k < count; k++) bias_grad[c + k] = sums[k] + (adds ? bias_grad[c + k] : 0.0f);
            for (long panel = 0; panel < panels; panel++) {
                long from = c * x->dim + panel * TILE, width = smaller(TILE, x->dim - panel * TILE);
                load_weights(x, from, count, width, weights, words);
                for (long k = 0; k < count; k++)
                    for (long d = 0; d < TILE; d += LANES) {
                        __mmask16 old = adds && weight_grad ? lanes_inside(width, d) : 0;
                        const float *before = weight_grad + from + k * x->dim + d;
                        _mm512_store_ps(grads + k * TILE + d, _mm512_maskz_loadu_ps(old, before));
                    }
                for (long block = 0; block < x->num_blocks; block++) {
                    const float *tile = tiles + block * GROUP * TILE, *pairs = tile + GROUP * TILE / 2;
                    long at = (block * panels + panel) * TILE * TILE, k = 0, row = TILE / half;
                    if (weight_grad) {
                        const float *h = hidden + at / half;
                        for (; k + STRIP <= count; k += STRIP)
                            add_product(tile + k * row, row, 1, h, row, grads + k * TILE, STRIP, words);
                        for (; k < count; k++)
                            add_product(tile + k * row, row, 1, h, row, grads + k * TILE, 1, words);
                    }
                    if (hidden_grad) {
                        float *to = hidden_grad + s * x->num_blocks * panels * TILE * TILE + at;
                        const float *g = words ? pairs : tile;
                        for (long b = 0; b < TILE; b += 4)
                            add_product(g + b, 1, TILE, weights, (count + half - 1) / half, to + b * TILE, 4, words);
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

/* With G[b, c] = factor[c] slope[b] e^(s - shift[b]), or of sigmoids factor[c] slope[b] / (1 + e^-s), targets left out:
   hidden_grad += G weight, [slices, blocks, D / TILE, TILE, TILE]; weight_grad = G^T hidden, and bias_grad = the sums
   of G over rows, both added to what is there with `adds`; all in float32. NULL is not computed. `hidden` is
   [blocks, D / TILE, TILE rows, TILE numbers], or words of two rows each, zeros beyond D. */
TARGET void widemax_loss_gradients(const Logits *x, const float *hidden, const float *shift, const float *slope,
                                   float *hidden_grad, float *weight_grad, float *bias_grad, int adds, long *next) {
    if (x->is_bfloat16)
        loss_gradients(x, hidden, shift, slope, hidden_grad, weight_grad, bias_grad, adds, next, 1);
    else loss_gradients(x, hidden, shift, slope, hidden_grad, weight_grad, bias_grad, adds, next, 0);
}

/* Room for a row of sums over sparse columns, of which only what was touched is looked at: zeros for each column and
   for each 64 columns, whole blocks of 64 of either, and zeros again when they were read. */
typedef struct {
    float *sums;
    uint8_t *marks;
    long num_blocks;
} Room;

/* Where so many entries are added for each block, all are looked at: marking takes a quarter of the time of adding. */
enum { ENTRIES_OF_BLOCK = 16 };

/* Adds values[p] b[ids[p]] over the entries of a row, in their order, as SciPy adds them. What the next one needs is
   asked for meanwhile, as it lies where the processor does not expect it. */
INLINE void add_row(const int32_t *ids, const float *values, long count, const int64_t *b_offsets,
                    const int32_t *b_ids, const float *b_values, const Room *room) {
    int64_t entries = 0;
    for (long p = 0; p < count; p++) entries += b_offsets[ids[p] + 1] - b_offsets[ids[p]];
    int marks = entries < ENTRIES_OF_BLOCK * room->num_blocks;
    for (long block = 0; !marks && block < room->num_blocks; block += BLOCK)
        _mm512_storeu_si512(room->marks + block, _mm512_set1_epi8(1));
    for (long p = 0; p < count; p++) {
        int64_t q = b_offsets[ids[p]], end = b_offsets[ids[p] + 1];
        int64_t soon = p + 1 < count ? b_offsets[ids[p + 1]] : 0, soon_end = p + 1 < count ? b_offsets[ids[p + 1] + 1] : 0;
        while (q < end || soon < soon_end) {
            if (soon < soon_end) {
                _mm_prefetch((const char *)(b_ids + soon), _MM_HINT_T0);
                _mm_prefetch((const char *)(b_values + soon), _MM_HINT_T0);
                soon += LANES;
            }
            for (int64_t part = smaller(q + LANES, end); q < part; q++) {
                float product = values[p] * b_values[q];
                __asm__("" : "+x"(product)); /* rounded before it is added */
                room->sums[b_ids[q]] += product;
                if (marks) room->marks[b_ids[q] / BLOCK] = 1;
            }
        }
    }
}

/* Which of the 64 columns each of 64 blocks were touched; these are taken out. */
INLINE uint64_t take_marks(const Room *room, long block) {
    __m512i marks = _mm512_loadu_si512(room->marks + block);
    _mm512_storeu_si512(room->marks + block, _mm512_setzero_si512());
    return _mm512_test_epi8_mask(marks, marks);
}

/* The columns, of 16 from one on, whose sums are not 0; these are taken out. */
INLINE __mmask16 take_sums(const Room *room, long column, __m512 *sums) {
    *sums = _mm512_loadu_ps(room->sums + column);
    _mm512_storeu_ps(room->sums + column, _mm512_setzero_ps());
    return _mm512_cmp_ps_mask(*sums, _mm512_setzero_ps(), _CMP_NEQ_UQ);
}

INLINE __m512i columns_from(long column) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(lanes, _mm512_set1_epi32(column));
}

/* Rows of a times b, both sparse. Nonzero sums are written by ascending column, those of a part of rows one after
   another from starts[part] on, and counted by row. */
TARGET void widemax_sparse_product(const int64_t *a_offsets, const int32_t *a_ids, const float *a_values,
                                   const int64_t *b_offsets, const int32_t *b_ids, const float *b_values,
                                   long num_rows, const int64_t *starts, int32_t *ids, float *values,
                                   int64_t *counts, const Room *room, long part, long *next) {
    for (long first; (first = taken(next, part)) < num_rows;) {
        int64_t at = starts[first / part];
        for (long row = first; row < smaller(first + part, num_rows); row++) {
            int64_t before = at, p = a_offsets[row];
            add_row(a_ids + p, a_values + p, a_offsets[row + 1] - p, b_offsets, b_ids, b_values, room);
            for (long block = 0; block < room->num_blocks; block += BLOCK)
                for (uint64_t left = take_marks(room, block); left; left &= left - 1) {
                    long column = (block + __builtin_ctzll(left)) * BLOCK;
                    for (long end = column + BLOCK; column < end; column += LANES) {
                        __m512 x;
                        __mmask16 some = take_sums(room, column, &x);
                        int count = __builtin_popcount(some);
                        /* In registers first: some processors take 100 cycles to compress into memory. */
                        __m512i own = _mm512_maskz_compress_epi32(some, columns_from(column));
                        _mm512_mask_storeu_epi32(ids + at, (1u << count) - 1, own);
                        _mm512_mask_storeu_ps(values + at, (1u << count) - 1, _mm512_maskz_compress_ps(some, x));
                        at += count;
                    }
                }
            counts[row] = at - before;
        }
    }
}

/* log x within 2^-51 of itself, for normal x > 0; NaN stays NaN. x = 2^n m with m between the square roots of 1/2 and 2,
   and with s = (m - 1) / (m + 1) the series of log((1 + s) / (1 - s)), its coefficients as in FreeBSD's e_log.c. */
INLINE __m512d log_of(__m512d x) {
    const __m512d one = _mm512_set1_pd(1.0);
    __m512d n = _mm512_getexp_pd(x), m = _mm512_getmant_pd(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    __mmask8 above = _mm512_cmp_pd_mask(m, _mm512_set1_pd(1.4142135623730951), _CMP_GT_OQ);
    m = _mm512_mask_mul_pd(m, above, m, _mm512_set1_pd(0.5));
    n = _mm512_mask_add_pd(n, above, n, one);
    __m512d f = _mm512_sub_pd(m, one), s = _mm512_div_pd(f, _mm512_add_pd(m, one)), z = _mm512_mul_pd(s, s);
    __m512d p = _mm512_set1_pd(1.479819860511658591e-01);
    p = _mm512_fmadd_pd(p, z, _mm512_set1_pd(1.531383769920937332e-01));
    p = _mm512_fmadd_pd(p, z, _mm512_set1_pd(1.818357216161805012e-01));
    p = _mm512_fmadd_pd(p, z, _mm512_set1_pd(2.222219843214978396e-01));
    p = _mm512_fmadd_pd(p, z, _mm512_set1_pd(2.857142874366239149e-01));
    p = _mm512_fmadd_pd(p, z, _mm512_set1_pd(3.999999999940941908e-01));
    p = _mm512_fmadd_pd(p, z, _mm512_set1_pd(6.666666666666735130e-01));
    __m512d half = _mm512_mul_pd(_mm512_mul_pd(f, f), _mm512_set1_pd(0.5));
    __m512d rest = _mm512_fmsub_pd(s, _mm512_fmadd_pd(p, z, half), half); /* log m - f */
    rest = _mm512_fmadd_pd(n, _mm512_set1_pd(1.90821492927058770002e-10), rest);
    return _mm512_fmadd_pd(n, _mm512_set1_pd(6.93147180369123816490e-01), _mm512_add_pd(f, rest));
}

/* Of N columns of K logits: their largest, the sum of e^(logit - largest), and that divided by the sum. With a
   direction the logits are those at `length` along it, which are written to `moved`, and `means` are those of the
   direction under the softmax. */
#define DEFINE_SOFTMAX(NAME, T, V, WIDTH, OP, EXP)                                                       \
    TARGET void NAME(const T *logits, const T *direction, T length, T *moved, long num_rows, long num_columns, \
                     T *probs, T *largest, T *total, T *means, long part, long *next) {                  \
        for (long first; (first = taken(next, part)) < num_columns;)                                     \
            for (long i = first; i < smaller(first + part, num_columns); i += 4 * WIDTH) {               \
                V most[4], sums[4], mean[4];                                                             \
                unsigned inside[4];                                                                      \
                for (int v = 0; v < 4; v++) {                                                            \
                    long left = smaller(smaller(first + part, num_columns) - i - v * WIDTH, WIDTH);      \
                    inside[v] = left > 0 ? (1u << left) - 1 : 0;                                         \
                    most[v] = OP(set1)(-INFINITY), sums[v] = mean[v] = OP(setzero)();                    \
                }                                                                                        \
                for (long k = 0; k < num_rows; k++)                                                      \
                    for (int v = 0; v < 4; v++) {                                                        \
                        long at = k * num_columns + i + v * WIDTH;                                       \
                        V x = OP(maskz_loadu)(inside[v], logits + at);                                   \
                        if (direction) {                                                                 \
                            x = OP(fmadd)(OP(set1)(length), OP(maskz_loadu)(inside[v], direction + at), x); \
                            OP(mask_storeu)(moved + at, inside[v], x);                                   \
                        }                                                                                \
                        most[v] = OP(max)(x, most[v]);                                                   \
                    }                                                                                    \
                for (long k = 0; k < num_rows; k++)                                                      \
                    for (int v = 0; v < 4; v++) {                                                        \
                        long at = k * num_columns + i + v * WIDTH;                                       \
                        V x = OP(maskz_loadu)(inside[v], (direction ? moved : logits) + at);             \
                        V e = EXP(OP(sub)(x, most[v]));                                                  \
                        OP(mask_storeu)(probs + at, inside[v], e);                                       \
                        sums[v] = OP(add)(sums[v], e);                                                   \
                    }                                                                                    \
                for (int v = 0; v < 4; v++) {                                                            \
                    OP(mask_storeu)(largest + i + v * WIDTH, inside[v], most[v]);                        \
                    OP(mask_storeu)(total + i + v * WIDTH, inside[v], sums[v]);                          \
                    sums[v] = OP(div)(OP(set1)(1), sums[v]);                                             \
                }                                                                                        \
                for (long k = 0; k < num_rows; k++)                                                      \
                    for (int v = 0; v < 4; v++) {                                                        \
                        long at = k * num_columns + i + v * WIDTH;                                       \
                        V e = OP(mul)(OP(maskz_loadu)(inside[v], probs + at), sums[v]);                  \
                        OP(mask_storeu)(probs + at, inside[v], e);                                       \
                        if (direction)                                                                   \
                            mean[v] = OP(fmadd)(e, OP(maskz_loadu)(inside[v], direction + at), mean[v]); \
                    }                                                                                    \
                for (int v = 0; v < 4 && direction; v++)                                                 \
                    OP(mask_storeu)(means + i + v * WIDTH, inside[v], mean[v]);                          \
            }                                                                                            \
    }
#define OF_FLOATS(NAME) _mm512_##NAME##_ps
#define OF_DOUBLES(NAME) _mm512_##NAME##_pd
DEFINE_SOFTMAX(widemax_softmax_float, float, __m512, 16, OF_FLOATS, exp_or_zero)
DEFINE_SOFTMAX(widemax_softmax_double, double, __m512d, 8, OF_DOUBLES, exp_of_double)

/* What answers of a head that counts are made of, and where they go. */
typedef struct {
    /* Rows of features, and the scores of classes beside each feature, in CSR form. */
    const int64_t *row_offsets;
    const int32_t *features;
    const float *values;
    const int64_t *offsets;
    const int32_t *ids;
    const float *weights;
    /* [C]: `smoothing` times prior is added to a share; the logits of a class beside no feature of a row, and
       e^(others - largest). */
    const float *prior, *others, *parts;
    /* The labels and, by ascending class, the classes that are no answer, of each row. */
    const int64_t *label_offsets, *labels, *excluded_offsets, *excluded;
    /* [B, K] the best classes and their logits; of each label, -1 for unknown ones; of each row. */
    int64_t *best;
    float *best_logits, *label_logits;
    int64_t *ranks;
    double *partitions, *squares;
    /* 1 / temperature is the power; the largest of others before it was rounded; sums of parts and of their squares. */
    double smoothing, power, largest, sum, square_sum;
    long num_rows, num_classes, k;
} Counts;

/* The classes that a row names, by ascending id, then those which it excludes besides. */
typedef struct {
    int32_t *ids;
    float *logits, *others; /* its own, and what they would be if it named none */
    float *priors;
    double *exponents; /* logits that are not rounded */
} Named;

/* Whether class a of logit x stands after class b of logit y in the order of answers. */
static inline int is_after(float x, int64_t a, float y, int64_t b) { return x < y || (x == y && a > b); }

/* Puts a class into a heap of the `size` best whose last is on top: in place of that, or, where `place` is no 0, there. */
static inline void put(int64_t *ids, float *logits, long size, long place, int64_t id, float logit) {
    for (; place && is_after(logit, id, logits[(place - 1) / 2], ids[(place - 1) / 2]); place = (place - 1) / 2)
        ids[place] = ids[(place - 1) / 2], logits[place] = logits[(place - 1) / 2];
    for (long child; (child = 2 * place + 1) < size; place = child) {
        if (child + 1 < size && is_after(logits[child + 1], ids[child + 1], logits[child], ids[child])) child++;
        if (!is_after(logits[child], ids[child], logit, id)) break;
        ids[place] = ids[child], logits[place] = logits[child];
    }
    ids[place] = id, logits[place] = logit;
}

/* The best of the classes offered so far, `num` of at most `size`, as a heap for put. */
typedef struct {
    int64_t *ids;
    float *logits;
    long num, size;
} Best;

static inline void offer(Best *best, int64_t id, float logit) {
    if (best->num < best->size) {
        long last = best->num++;
        put(best->ids, best->logits, best->num, last, id, logit);
    } else if (is_after(best->logits[0], best->ids[0], logit, id)) put(best->ids, best->logits, best->num, 0, id, logit);
}

/* The first place of an ascending id that is no less. */
static inline long place_of(const int32_t *ids, long num, int64_t id) {
    long place = 0;
    while (num) {
        long half = num / 2;
        if (ids[place + half] < id) place += half + 1, num -= half + 1;
        else num = half;
    }
    return place;
}

static inline int is_among(const int32_t *ids, long num, int64_t id) {
    long place = place_of(ids, num, id);
    return place < num && ids[place] == id;
}

/* Those of 16 logits, `num` of which there are, that may be among the best. */
INLINE __mmask16 promising(const Best *best, const float *logits, long num) {
    __mmask16 inside = lanes_inside(num, 0);
    if (best->num < best->size) return inside;
    __m512 least = _mm512_set1_ps(best->logits[0]);
    return _mm512_mask_cmp_ps_mask(inside, _mm512_maskz_loadu_ps(inside, logits), least, _CMP_GE_OQ);
}

/* How many of `num` logits are larger than y or, if so, as large. */
INLINE long count_larger(const float *logits, long num, float y, int or_equal) {
    long count = 0, i = 0;
    __m512 ys = _mm512_set1_ps(or_equal ? nextafterf(y, -INFINITY) : y);
    for (; i + LANES <= num; i += LANES)
        count += __builtin_popcount(_mm512_cmp_ps_mask(_mm512_loadu_ps(logits + i), ys, _CMP_GT_OQ));
    __mmask16 inside = lanes_inside(num, i);
    __m512 rest = _mm512_maskz_loadu_ps(inside, logits + i);
    return count + __builtin_popcount(_mm512_mask_cmp_ps_mask(inside, rest, ys, _CMP_GT_OQ));
}

/* How many, by ascending class, stand before one of logit y that would be at `place` among them. */
INLINE long count_before(const float *logits, long num, long place, float y) {
    return count_larger(logits, place, y, 1) + count_larger(logits + place, num - place, y, 0);
}

/* The classes beside the features of a row, their scores in place of logits; the sums of these, and of parts and their
   squares. */
INLINE long take_named(const Counts *x, const Room *room, const Named *named, double *total, double *sum,
                       double *square_sum) {
    long num = 0;
    __m512d scores = _mm512_setzero_pd(), sums = scores, squares = scores;
    for (long block = 0; block < room->num_blocks; block += BLOCK)
        for (uint64_t left = take_marks(room, block); left; left &= left - 1) {
            long column = (block + __builtin_ctzll(left)) * BLOCK;
            for (long end = column + BLOCK; column < end; column += LANES) {
                __m512 score;
                __mmask16 some = take_sums(room, column, &score);
                if (!some) continue;
                scores = added(scores, score);
                _mm512_storeu_epi32(named->ids + num, _mm512_maskz_compress_epi32(some, columns_from(column)));
                _mm512_storeu_ps(named->logits + num, _mm512_maskz_compress_ps(some, score));
                __m512 others = _mm512_maskz_loadu_ps(some, x->others + column);
                _mm512_storeu_ps(named->others + num, _mm512_maskz_compress_ps(some, others));
                __m512 priors = _mm512_maskz_loadu_ps(some, x->prior + column);
                _mm512_storeu_ps(named->priors + num, _mm512_maskz_compress_ps(some, priors));
                __m512 parts = _mm512_maskz_loadu_ps(some, x->parts + column);
                sums = added(sums, parts);
                squares = added(squares, _mm512_mul_ps(parts, parts));
                num += __builtin_popcount(some);
            }
        }
    *total = _mm512_reduce_add_pd(scores);
    *sum = _mm512_reduce_add_pd(sums);
    *square_sum = _mm512_reduce_add_pd(squares);
    return num;
}

/* Scores become logits; what follows from all of a row. */
INLINE void find_logits(const Counts *x, const Named *named, long num, double total, double sum, double square_sum,
                        double *partition, double *square) {
    __m512d divisor = _mm512_set1_pd(total > 0 ? total : 1), largest = _mm512_set1_pd(x->largest);
    for (long i = 0; i < num; i += 8) {
        __mmask8 inside = lanes_inside(num, i);
        __m512d scores = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(inside, named->logits + i));
        __m512d shares = _mm512_cvtps_pd(_mm512_cvtpd_ps(_mm512_div_pd(scores, divisor)));
        __m512d priors = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(inside, named->priors + i));
        __m512d base = _mm512_mul_pd(priors, _mm512_set1_pd(x->smoothing));
        __asm__("" : "+x"(base)); /* rounded before it is added */
        __m512d logits = log_of(_mm512_add_pd(base, shares));
        logits = _mm512_mul_pd(logits, _mm512_set1_pd(x->power));
        largest = _mm512_mask_max_pd(largest, inside, largest, logits);
        _mm512_storeu_pd(named->exponents + i, logits);
        _mm256_storeu_ps(named->logits + i, _mm512_cvtpd_ps(logits));
    }
    double shift = _mm512_reduce_max_pd(largest), above = exp(x->largest - shift);
    __m512d sums = _mm512_setzero_pd(), squares = sums;
    for (long i = 0; i < num; i += 8) {
        __mmask8 inside = lanes_inside(num, i);
        __m512d e = exp_of_double(_mm512_sub_pd(_mm512_loadu_pd(named->exponents + i), _mm512_set1_pd(shift)));
        sums = _mm512_mask_add_pd(sums, inside, sums, e);
        squares = _mm512_mask_add_pd(squares, inside, squares, _mm512_mul_pd(e, e));
    }
    double all = _mm512_reduce_add_pd(sums) + (x->sum - sum) * above;
    *square = (_mm512_reduce_add_pd(squares) + (x->square_sum - square_sum) * above * above) / (all * all);
    *partition = shift + log(all);
}

INLINE void find_best(const Counts *x, const Named *named, long num, long num_more, Best *best) {
    for (long i = 0; i < num + num_more; i += LANES)
        for (unsigned left = promising(best, named->logits + i, num + num_more - i); left; left &= left - 1) {
            long place = i + __builtin_ctz(left);
            offer(best, named->ids[place], named->logits[place]);
        }
    if (best->num < best->size || (float)x->largest >= best->logits[0])
        for (long c = 0; c < x->num_classes; c += LANES)
            for (unsigned left = promising(best, x->others + c, x->num_classes - c); left; left &= left - 1) {
                long id = c + __builtin_ctz(left);
                int is_named = is_among(named->ids, num, id) || is_among(named->ids + num, num_more, id);
                if (!is_named) offer(best, id, x->others[id]);
            }
    for (long last = best->num - 1; last > 0; last--) {
        int64_t id = best->ids[last];
        float logit = best->logits[last];
        best->ids[last] = best->ids[0], best->logits[last] = best->logits[0];
        put(best->ids, best->logits, last, 0, id, logit);
    }
}

/* Answers about rows of features. The arrays of `named` have room for all classes and 16 more. A row that has no
   answer, whose partition is NaN, has best classes that begin with 0, NaN for logits and rank 1. */
TARGET void widemax_count_answers(const Counts *x, const Room *room, const Named *named, long part, long *next) {
    for (long first; (first = taken(next, part)) < x->num_rows;)
        for (long row = first; row < smaller(first + part, x->num_rows); row++) {
            int64_t p = x->row_offsets[row];
            add_row(x->features + p, x->values + p, x->row_offsets[row + 1] - p, x->offsets, x->ids, x->weights, room);
            double total, sum, square_sum;
            long num = take_named(x, room, named, &total, &sum, &square_sum), num_more = 0;
            find_logits(x, named, num, total, sum, square_sum, x->partitions + row, x->squares + row);
            int has_none = isnan(x->partitions[row]);
            Best best = {x->best + row * x->k, x->best_logits + row * x->k, 0, x->k};

            for (long l = x->label_offsets[row]; l < x->label_offsets[row + 1]; l++) {
                int64_t id = x->labels[l];
                long place = place_of(named->ids, num, id);
                int is_named = place < num && named->ids[place] == id;
                x->ranks[l] = id < 0 ? 0 : 1;
                x->label_logits[l] = id < 0 || has_none ? NAN : is_named ? named->logits[place] : x->others[id];
            }
            if (has_none) {
                for (long i = 0; i < x->k; i++) best.ids[i] = i, best.logits[i] = NAN;
                x->squares[row] = NAN;
                continue;
            }
            for (long e = x->excluded_offsets[row]; e < x->excluded_offsets[row + 1]; e++) {
                int64_t id = x->excluded[e];
                long place = place_of(named->ids, num, id);
                if (place == num || named->ids[place] != id) {
                    place = num + num_more++;
                    named->ids[place] = id;
                    named->others[place] = x->others[id];
                }
                named->logits[place] = -INFINITY;
            }
            for (long l = x->label_offsets[row]; l < x->label_offsets[row + 1]; l++) {
                int64_t id = x->labels[l];
                float y = x->label_logits[l];
                if (id < 0) continue;
                long place = place_of(named->ids, num, id), more = place_of(named->ids + num, num_more, id);
                x->ranks[l] += count_before(x->others, x->num_classes, id, y);
                x->ranks[l] -= count_before(named->others, num, place, y);
                x->ranks[l] -= count_before(named->others + num, num_more, more, y);
                x->ranks[l] += count_before(named->logits, num, place, y);
            }
            if (x->k) find_best(x, named, num, num_more, &best);
        }
}

/* Numbers as bfloat16, one of the two neighbors by 16 random bits, those beyond the largest as that one. */
INLINE __m256i rounded_by_chance(__m512 x, __m512i random) {
    const __m512 largest = _mm512_castsi512_ps(_mm512_set1_epi32(0x7F7F0000));
    __m512i kept = _mm512_set1_epi32(0xFFFF0000), bits = _mm512_castps_si512(x);
    __m512 near = _mm512_castsi512_ps(_mm512_and_si512(_mm512_add_epi32(bits, random), kept));
    near = _mm512_max_ps(_mm512_min_ps(near, largest), _mm512_sub_ps(_mm512_setzero_ps(), largest));
    near = _mm512_mask_mov_ps(near, _mm512_fpclass_ps_mask(x, 0x99), x); /* infinite, or none */
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(near), 16));
}

/* h of bits_of_rows in stochastic_rounding.py. */
static inline int32_t hashed(int64_t place) {
    int64_t mixed = (int64_t)((uint64_t)place * (uint64_t)-0x61C8864680B583EB);
    return (int32_t)((int64_t)((uint64_t)(mixed ^ (mixed >> 32)) * (uint64_t)-0x40A7B892E31B1A47) >> 32);
}

/* How rows of bfloat16 are rounded: [D] factors and shifts of the random bits; row r is place first + r every. */
typedef struct {
    const int32_t *factors, *shifts;
    int64_t first, every;
} Rounding;

INLINE void adagrad_row(void *weight, const float *g, long dim, __m512 step, __m512 kept, const Rounding *rounding,
                        int64_t row) {
    __m512i hash = _mm512_set1_epi32(rounding ? hashed(rounding->first + row * rounding->every) : 0);
    for (long d = 0; d < dim; d += LANES) {
        __mmask16 own = first_lanes(dim - d);
        __m512 x = _mm512_mul_ps(logits_at(weight, rounding != 0, 0, dim, d), kept);
        x = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(own, g + d), step, x);
        if (rounding) {
            __m512i random = _mm512_mullo_epi32(hash, _mm512_maskz_loadu_epi32(own, rounding->factors + d));
            random = _mm512_add_epi32(random, _mm512_maskz_loadu_epi32(own, rounding->shifts + d));
            __m256i near = rounded_by_chance(x, _mm512_srli_epi32(random, 16));
            _mm256_mask_storeu_epi16((uint16_t *)weight + d, own, near);
        } else _mm512_mask_storeu_ps((float *)weight + d, own, x);
    }
}

/* One step of row-wise Adagrad on the rows `ids`, all distinct: sum += |g|^2 / D, w = kept w - rate g / (sqrt(sum) + eps).
   Weights are float32, or bfloat16 with a rounding. */
TARGET void widemax_rowwise_adagrad(void *weight, float *sum, const int64_t *ids, const float *grad, long num_rows,
                                    long dim, float rate, float eps, float kept, const Rounding *rounding, long part,
                                    long *next) {
    enum { ROWS_AHEAD = 8 };
    long bytes = dim * (rounding ? sizeof(uint16_t) : sizeof(float));
    for (long begin; (begin = taken(next, part)) < num_rows;) {
        long end = smaller(begin + part, num_rows);
        for (long row = begin; row < end; row++) {
            const float *g = grad + row * dim;
            int64_t soon = ids[smaller(row + ROWS_AHEAD, end - 1)];
            for (long at = 0; at < bytes; at += BLOCK) _mm_prefetch((const char *)weight + soon * bytes + at, _MM_HINT_T0);
            _mm_prefetch((const char *)(sum + soon), _MM_HINT_T0);
            __m512 squares = _mm512_setzero_ps();
            for (long d = 0; d < dim; d += LANES) {
                __m512 x = _mm512_maskz_loadu_ps(first_lanes(dim - d), g + d);
                squares = _mm512_fmadd_ps(x, x, squares);
            }
            float *total = sum + ids[row];
            *total += _mm512_reduce_add_ps(squares) / dim;
            __m512 step = _mm512_set1_ps(-rate / (sqrtf(*total) + eps));
            adagrad_row((char *)weight + ids[row] * bytes, g, dim, step, _mm512_set1_ps(kept), rounding, ids[row]);
        }
    }
}

/* One step of Adagrad on the rows `ids`, all distinct, with a sum an entry: sum += g^2, and w as above. */
TARGET void widemax_adagrad(float *weight, float *sum, const int64_t *ids, const float *grad, long num_rows, long dim,
                            float rate, float eps, float kept, long part, long *next) {
    enum { ROWS_AHEAD = 4 };
    const __m512 step = _mm512_set1_ps(-rate), least = _mm512_set1_ps(eps), left = _mm512_set1_ps(kept);
    for (long begin; (begin = taken(next, part)) < num_rows;) {
        long end = smaller(begin + part, num_rows);
        for (long row = begin; row < end; row++) {
            const float *g = grad + row * dim;
            float *w = weight + ids[row] * dim, *total = sum + ids[row] * dim;
            long soon = ids[smaller(row + ROWS_AHEAD, end - 1)] * dim;
            for (long d = 0; d < dim; d += LANES) {
                _mm_prefetch((const char *)(weight + soon + d), _MM_HINT_T0);
                _mm_prefetch((const char *)(sum + soon + d), _MM_HINT_T0);
                __mmask16 own = first_lanes(dim - d);
                __m512 x = _mm512_maskz_loadu_ps(own, g + d);
                __m512 squares = _mm512_fmadd_ps(x, x, _mm512_maskz_loadu_ps(own, total + d));
                __m512 change = _mm512_div_ps(_mm512_mul_ps(x, step), _mm512_add_ps(_mm512_sqrt_ps(squares), least));
                _mm512_mask_storeu_ps(total + d, own, squares);
                _mm512_mask_storeu_ps(w + d, own, _mm512_fmadd_ps(_mm512_maskz_loadu_ps(own, w + d), left, change));
            }
        }
    }
}

/* One step of Adam on the rows `ids`, all distinct, each of which counts its own steps. */
TARGET void widemax_lazy_adam(float *weight, float *mean, float *square, int32_t *touches, const int64_t *ids,
                              const float *grad, long num_rows, long dim, double rate, double beta1, double beta2,
                              double eps, long part, long *next) {
    enum { ROWS_AHEAD = 4 };
    const __m512 new1 = _mm512_set1_ps(1 - beta1), old2 = _mm512_set1_ps(beta2), new2 = _mm512_set1_ps(1 - beta2);
    for (long begin; (begin = taken(next, part)) < num_rows;) {
        long end = smaller(begin + part, num_rows);
        for (long row = begin; row < end; row++) {
            const float *g = grad + row * dim;
            float *w = weight + ids[row] * dim, *m = mean + ids[row] * dim, *v = square + ids[row] * dim;
            long soon = ids[smaller(row + ROWS_AHEAD, end - 1)] * dim;
            for (long d = 0; d < dim; d += LANES) {
                _mm_prefetch((const char *)(weight + soon + d), _MM_HINT_T0);
                _mm_prefetch((const char *)(mean + soon + d), _MM_HINT_T0);
                _mm_prefetch((const char *)(square + soon + d), _MM_HINT_T0);
            }
            int32_t count = ++touches[ids[row]];
            double first = -expm1(count * log(beta1)), second = -expm1(count * log(beta2));
            __m512 root = _mm512_set1_ps(first / sqrt(second)), least = _mm512_set1_ps(first * eps);
            for (long d = 0; d < dim; d += LANES) {
                __mmask16 own = first_lanes(dim - d);
                __m512 x = _mm512_maskz_loadu_ps(own, g + d), old = _mm512_maskz_loadu_ps(own, m + d);
                __m512 moment = _mm512_fmadd_ps(new1, _mm512_sub_ps(x, old), old);
                __m512 mean_square = _mm512_mul_ps(old2, _mm512_maskz_loadu_ps(own, v + d));
                mean_square = _mm512_fmadd_ps(_mm512_mul_ps(new2, x), x, mean_square);
                __m512 scale = _mm512_fmadd_ps(_mm512_sqrt_ps(mean_square), root, least);
                __m512 step = _mm512_div_ps(_mm512_mul_ps(_mm512_set1_ps(rate), moment), scale);
                _mm512_mask_storeu_ps(m + d, own, moment);
                _mm512_mask_storeu_ps(v + d, own, mean_square);
                _mm512_mask_storeu_ps(w + d, own, _mm512_sub_ps(_mm512_maskz_loadu_ps(own, w + d), step));
            }
        }
    }
}

/* Entries (row, id, value) by rising id, those of an id in their order: `order[p]` is the row of the p-th, `values[p]`
   its value, `ids[u]` the u-th distinct id, whose entries begin at `starts[u]`. Returns how many ids there are. The
   second halves of keys and places are room. */
long widemax_sorted_entries(const int64_t *offsets, const int64_t *entry_ids, const float *entry_values, long num_rows,
                            long num_ids, uint32_t *keys, uint32_t *places, int64_t *ids, int64_t *starts,
                            int64_t *order, float *values) {
    enum { BITS = 11, DIGITS = 1 << BITS };
    long num = offsets[num_rows];
    uint32_t *to_keys = keys + num, *to_places = places + num;
    for (long p = 0; p < num; p++) keys[p] = (uint32_t)entry_ids[p], places[p] = (uint32_t)p;
    for (int shift = 0; shift < 32 && (num_ids - 1) >> shift; shift += BITS) {
        uint32_t begins[DIGITS + 1] = {0};
        for (long p = 0; p < num; p++) begins[(keys[p] >> shift & (DIGITS - 1)) + 1]++;
        for (int digit = 1; digit < DIGITS; digit++) begins[digit] += begins[digit - 1];
        for (long p = 0; p < num; p++) {
            uint32_t to = begins[keys[p] >> shift & (DIGITS - 1)]++;
            to_keys[to] = keys[p];
            to_places[to] = places[p];
        }
        uint32_t *from_keys = keys, *from_places = places;
        keys = to_keys, places = to_places, to_keys = from_keys, to_places = from_places;
    }
    /* Both rooms of keys have been read: the row of each entry goes where the sorted keys are not. */
    for (long row = 0; row < num_rows; row++)
        for (long p = offsets[row]; p < offsets[row + 1]; p++) to_keys[p] = (uint32_t)row;
    long num_distinct = 0;
    for (long p = 0; p < num; p++) {
        if (!p || keys[p] != keys[p - 1]) ids[num_distinct] = keys[p], starts[num_distinct++] = p;
        order[p] = to_keys[places[p]];
        values[p] = entry_values[places[p]];
    }
    starts[num_distinct] = num;
    return num_distinct;
}

/* The weights of n-grams, as widemax.encoders.text has them: idf times counts, of each row's views divided by their
   lengths times `scales`, the whole by its own, and without those drawn below `dropout`, if there are draws. Returns
   how many are left. `squares` is room for a number a view. */
TARGET long widemax_bag_weights(const int64_t *entry_ids, const float *counts, const int64_t *lengths, const float *idf,
                                const float *scales, long num_rows, long num_views, const float *draws, float dropout,
                                float *squares, int64_t *offsets, int64_t *ids, float *values) {
    enum { HALF = LANES / 2 };
    long begin = 0, kept = 0;
    for (long row = 0; row < num_rows; row++, lengths += num_views) {
        float total = 0;
        for (long view = 0, p = begin; view < num_views; view++) {
            __m512 sums = _mm512_setzero_ps();
            for (long end = p + lengths[view]; p < end; p += smaller(LANES, end - p)) {
                /* Before they are divided they stand where no later entry is read from: kept <= p. */
                __mmask16 own = first_lanes(end - p);
                __m512i low = _mm512_maskz_loadu_epi64(own, entry_ids + p);
                __m512i high = _mm512_maskz_loadu_epi64(own >> HALF, entry_ids + p + HALF);
                __m512 found = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_i64gather_ps(low, idf, 4)),
                                                  _mm512_i64gather_ps(high, idf, 4), 1);
                __m512 weight = _mm512_mul_ps(_mm512_maskz_loadu_ps(own, counts + p), found);
                sums = _mm512_fmadd_ps(weight, weight, sums);
                _mm512_mask_storeu_ps(values + p, own, weight);
            }
            squares[view] = _mm512_reduce_add_ps(sums);
            total += squares[view] > 0 ? scales[view] * scales[view] : 0;
        }
        offsets[row] = kept;
        for (long view = 0; view < num_views; view++) {
            float scale = squares[view] > 0 ? scales[view] / sqrtf(squares[view] * total) / (1 - dropout) : 0;
            for (long end = begin + lengths[view]; begin < end; begin += smaller(LANES, end - begin)) {
                __mmask16 left = first_lanes(end - begin);
                if (draws)
                    left = _mm512_mask_cmp_ps_mask(left, _mm512_maskz_loadu_ps(left, draws + begin),
                                                   _mm512_set1_ps(dropout), _CMP_NLT_UQ);
                __m512i low = _mm512_maskz_loadu_epi64(left, entry_ids + begin);
                __m512i high = _mm512_maskz_loadu_epi64(left >> HALF, entry_ids + begin + HALF);
                __m512 weight = _mm512_mul_ps(_mm512_maskz_loadu_ps(left, values + begin), _mm512_set1_ps(scale));
                int num_low = __builtin_popcount(left & 0xFF), num = __builtin_popcount(left);
                _mm512_mask_storeu_epi64(ids + kept, first_lanes(num_low), _mm512_maskz_compress_epi64(left, low));
                _mm512_mask_storeu_epi64(ids + kept + num_low, first_lanes(num - num_low),
                                         _mm512_maskz_compress_epi64(left >> HALF, high));
                _mm512_mask_storeu_ps(values + kept, first_lanes(num), _mm512_maskz_compress_ps(left, weight));
                kept += num;
            }
        }
    }
    offsets[num_rows] = kept;
    return kept;
}

/* CSR rows of which each `group` in turn are near: sums[i] = sum of |x_i . x_j| over the rows j of its group. `room`, a
   number a feature, is zeros and stays so. */
TARGET void widemax_group_products(const int64_t *offsets, const int32_t *ids, const float *values, long num_rows,
                                   long group, float *room, float *sums) {
    for (long begin = 0; begin < num_rows; begin += group) {
        long end = smaller(begin + group, num_rows);
        for (long i = begin; i < end; i++) sums[i] = 0;
        for (long i = begin; i < end; i++) {
            for (long p = offsets[i]; p < offsets[i + 1]; p++) room[ids[p]] += values[p];
            for (long j = i; j < end; j++) {
                __m512 products = _mm512_setzero_ps();
                for (long p = offsets[j]; p < offsets[j + 1]; p += LANES) {
                    __mmask16 own = first_lanes(offsets[j + 1] - p);
                    __m512i places = _mm512_maskz_loadu_epi32(own, ids + p);
                    __m512 found = _mm512_mask_i32gather_ps(products, own, places, room, 4);
                    products = _mm512_mask3_fmadd_ps(found, _mm512_maskz_loadu_ps(own, values + p), products, own);
                }
                float product = fabsf(_mm512_reduce_add_ps(products));
                sums[i] += product;
                if (j > i) sums[j] += product;
            }
            for (long p = offsets[i]; p < offsets[i + 1]; p++) room[ids[p]] = 0;
        }
    }
}

typedef struct {
    const int64_t *offsets;
    const int32_t *ids;
    const float *values;
    const uint8_t *is_own;
    const float *sums;
    float *dual, *weight;
    long num_rows, num_classes, group;
    float ridge;
} Separation;

enum { MOST_VECTORS = 8, MOST_GROUP = 16 };

/* The rows from `begin` on, of `vectors` times 16 classes from `first` on. */
INLINE void separate_rows(const Separation *x, long begin, long first, const int vectors) {
    enum { ENTRIES_AHEAD = 4 };
    float changes[MOST_GROUP][MOST_VECTORS * LANES];
    long end = smaller(begin + x->group, x->num_rows), num_entries = x->offsets[end];
    __mmask16 own[MOST_VECTORS];
    for (int v = 0; v < vectors; v++) own[v] = first_lanes(x->num_classes - first - v * LANES);
    for (long row = begin; row < end; row++) {
        __m512 margins[MOST_VECTORS];
        for (int v = 0; v < vectors; v++) margins[v] = _mm512_setzero_ps();
        for (long p = x->offsets[row]; p < x->offsets[row + 1]; p++) {
            const float *soon = x->weight + x->ids[smaller(p + ENTRIES_AHEAD, num_entries - 1)] * x->num_classes + first;
            const float *w = x->weight + x->ids[p] * x->num_classes + first;
            __m512 value = _mm512_set1_ps(x->values[p]);
            for (int v = 0; v < vectors; v++) {
                _mm_prefetch((const char *)(soon + v * LANES), _MM_HINT_T0);
                margins[v] = _mm512_fnmadd_ps(value, _mm512_maskz_loadu_ps(own[v], w + v * LANES), margins[v]);
            }
        }
        __m512 ridge = _mm512_set1_ps(x->ridge), step = _mm512_set1_ps(1 / (x->sums[row] + x->ridge));
        for (int v = 0; v < vectors; v++) {
            long at = row * x->num_classes + first + v * LANES;
            __m128i flags = _mm_maskz_loadu_epi8(own[v], x->is_own + at);
            __mmask16 wanted = _mm_test_epi8_mask(flags, flags);
            __m512 old = _mm512_maskz_loadu_ps(own[v], x->dual + at), zero = _mm512_setzero_ps();
            __m512 margin = _mm512_mask_add_ps(margins[v], wanted, margins[v], _mm512_set1_ps(2));
            __m512 new = _mm512_fmadd_ps(step, _mm512_fnmadd_ps(ridge, old, margin), old);
            new = _mm512_mask_max_ps(_mm512_min_ps(new, zero), wanted, new, zero);
            _mm512_mask_storeu_ps(x->dual + at, own[v], new);
            _mm512_storeu_ps(changes[row - begin] + v * LANES, _mm512_sub_ps(new, old));
        }
    }
    for (long row = begin; row < end; row++)
        for (long p = x->offsets[row]; p < x->offsets[row + 1]; p++) {
            float *w = x->weight + x->ids[p] * x->num_classes + first;
            __m512 value = _mm512_set1_ps(x->values[p]);
            for (int v = 0; v < vectors; v++) {
                __m512 change = _mm512_loadu_ps(changes[row - begin] + v * LANES);
                __m512 old = _mm512_maskz_loadu_ps(own[v], w + v * LANES);
                _mm512_mask_storeu_ps(w + v * LANES, own[v], _mm512_fmadd_ps(value, change, old));
            }
        }
}

/* The sweep of widemax.solvers.separators over the groups of at most 16 rows that begin at `starts`, one after another;
   threads share classes, `part` vectors of 16 at a time. */
TARGET void widemax_separate(const Separation *x, const int64_t *starts, long num_starts, long part, long *next) {
    for (long first; (first = taken(next, part) * LANES) < x->num_classes;) {
        long vectors = smaller(part, (x->num_classes - first + LANES - 1) / LANES);
        for (long s = 0; s < num_starts; s++) switch (vectors) {
            case 1: separate_rows(x, starts[s], first, 1); break;
            case 2: separate_rows(x, starts[s], first, 2); break;
            case 3: separate_rows(x, starts[s], first, 3); break;
            case 4: separate_rows(x, starts[s], first, 4); break;
            case 5: separate_rows(x, starts[s], first, 5); break;
            case 6: separate_rows(x, starts[s], first, 6); break;
            case 7: separate_rows(x, starts[s], first, 7); break;
            default: separate_rows(x, starts[s], first, MOST_VECTORS);
        }
    }
}

#endif
