/* The loops that NumPy needs several passes for, or a dozen. Python has the counterpart of each, which
   defines it.

   A plane is n rows of k classes: C-contiguous, or column by column, `stride` doubles apart. No product is
   fused with a sum (-ffp-contract=off) and sums are formed in one order, so the results are the same bits
   whatever registers the loops are compiled for. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__) && defined(__x86_64__) && !defined(EVERY_PROCESSOR)
#error "for the plainest x86 processor clang makes loops that are slower than NumPy's"
#endif

#ifdef EVERY_PROCESSOR /* a copy for each kind; the right one is taken when the library is loaded */
#define LOOPS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LOOPS
#endif

#define INLINE static inline __attribute__((always_inline)) /* or it is compiled for the plainest kind */
#define CHUNK 128 /* entries that are looked at together; a power of two */

/* What the library was made from, as a checksum: it is used only beside this file. */
uint32_t softgrad_source(void)
{
    return SOURCE;
}

INLINE double lesser(double x, double y)
{
    return x < y ? x : y;
}

INLINE double greater(double x, double y)
{
    return x > y ? x : y;
}

INLINE int64_t bits_of(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE double of_bits(int64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE double entry(const void *plane, size_t place, int single)
{
    return single ? (double)((const float *)plane)[place] : ((const double *)plane)[place];
}

/* Extremes are looked for among whole numbers that lie in the same order: unlike numbers that may be none,
   they can be taken in any. Beyond the infinities lies what is not a number. */
INLINE int64_t rank(double x)
{
    int64_t bits = bits_of(x);
    return bits ^ (bits >> 63 & INT64_MAX);
}

INLINE int32_t rank_of_float(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits >> 31 & INT32_MAX);
}

INLINE double of_rank(int64_t rank)
{
    return of_bits(rank ^ (rank >> 63 & INT64_MAX));
}

INLINE double of_float_rank(int32_t rank)
{
    int32_t bits = rank ^ (rank >> 31 & INT32_MAX);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct extremes {
    double most, least;
};

/* Of some numbers; not numbers themselves where one is none. */
INLINE struct extremes numbers(double most, double least)
{
    return most == most && least == least ? (struct extremes){most, least} : (struct extremes){NAN, NAN};
}

INLINE struct extremes of_doubles(const double *z, size_t k)
{
    int64_t most = INT64_MIN, least = INT64_MAX;
#pragma omp simd reduction(max : most) reduction(min : least)
    for (size_t j = 0; j < k; j++) {
        most = rank(z[j]) > most ? rank(z[j]) : most;
        least = rank(z[j]) < least ? rank(z[j]) : least;
    }
    return numbers(of_rank(most), of_rank(least));
}

INLINE struct extremes of_floats(const float *z, size_t k)
{
    int32_t most = INT32_MIN, least = INT32_MAX;
#pragma omp simd reduction(max : most) reduction(min : least)
    for (size_t j = 0; j < k; j++) {
        most = rank_of_float(z[j]) > most ? rank_of_float(z[j]) : most;
        least = rank_of_float(z[j]) < least ? rank_of_float(z[j]) : least;
    }
    return numbers(of_float_rank(most), of_float_rank(least));
}

/* The maximum of each row, and then, for all rows, the minima. */
LOOPS void softgrad_extremes(const void *z, int single, size_t n, size_t k, double *found)
{
    for (size_t i = 0; i < n; i++) {
        const float *x = (const float *)z + i * k;
        const double *y = (const double *)z + i * k;
        struct extremes of = single ? of_floats(x, k) : of_doubles(y, k);
        found[i] = of.most;
        found[n + i] = of.least;
    }
}

/* The sum of CHUNK numbers, seven roundings deep; they are overwritten. */
INLINE double tree_sum(double *x)
{
    for (size_t half = CHUNK / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            x[i] += x[i + half];
    return x[0];
}

struct sum {
    double rounded, lost;
};

/* Adds x, keeping what rounding loses (Knuth's TwoSum). */
INLINE void add(struct sum *to, double x)
{
    double total = to->rounded + x, of_x = total - to->rounded;
    to->lost += (to->rounded - (total - of_x)) + (x - of_x);
    to->rounded = total;
}

/* exp(x) for x <= 0, within 2u (u = 2^-53), and within half of the least number where it is subnormal.

   With k the whole number next to x / log 2 and r = x - k log 2, |r| <= 0.3466: log 2 is two numbers, of
   which k times the first is exact, so that r is off by u/4 at most. exp(r) is 1 + r + r^2 q(r), q the
   polynomial that comes nearest (0.15u; by Chebyshev's nodes); r^2 q is at most 0.068 and off by 5u of
   that, the sums are rounded once each. 2^k is two factors, so that it may be subnormal. */
INLINE double exponential(double x)
{
    const double shift = 0x1.8p52; /* of a sum that is rounded to a whole number */
    x = x < -746.0 ? -746.0 : x;
    double shifted = x * 0x1.71547652b82fep0 + shift, k = shifted - shift;
    double r = (x - k * 0x1.62e42fefa3800p-1) - k * 0x1.ef35793c76730p-45, r2 = r * r, r4 = r2 * r2;
    double a = 0x1.0000000000001p-1 + r * 0x1.5555555555556p-3;
    double b = 0x1.5555555553d68p-5 + r * 0x1.11111111109b5p-7;
    double c = 0x1.6c16c17889ef1p-10 + r * 0x1.a01a01a7c2efep-13;
    double d = 0x1.a019b9149a41cp-16 + r * 0x1.71de0db2f6b19p-19;
    double e = 0x1.28917c89a43bcp-22 + r * 0x1.af389ecfc4bb6p-26;
    double q = (a + r2 * b) + r4 * ((c + r2 * d) + r4 * e);
    int64_t power = bits_of(shifted) - bits_of(shift) + 54 + 1023;
    return (1.0 + (r + r2 * q)) * of_bits((int64_t)((uint64_t)power << 52)) * 0x1p-54;
}

/* Writes exp((z - m) / temperature) of a row, but 0 for one of its classes, and returns the others' sum. */
INLINE double exponentials(const void *z, int single, size_t k, double m, double temperature, size_t pivot,
                           double *w)
{
    double chunk[CHUNK];
    struct sum sum = {0.0, 0.0};
    for (size_t from = 0; from < k; from += CHUNK) {
        size_t size = k - from < CHUNK ? k - from : CHUNK;
        if (size < CHUNK)
            memset(chunk, 0, sizeof chunk);
#pragma omp simd
        for (size_t j = 0; j < size; j++)
            chunk[j] = entry(z, from + j, single) - m;
        if (temperature != 1.0) {
#pragma omp simd
            for (size_t j = 0; j < size; j++)
                chunk[j] /= temperature;
        }
#pragma omp simd
        for (size_t j = 0; j < size; j++)
            chunk[j] = exponential(chunk[j]);
        if (pivot - from < size)
            chunk[pivot - from] = 0.0;
        memcpy(w + from, chunk, size * sizeof *w);
        add(&sum, tree_sum(chunk));
    }
    return sum.rounded + sum.lost;
}

/* Of each row, n one after the other: w as above, which may be z itself, and the sum. */
LOOPS void softgrad_exponentials(const void *z, int single, size_t n, size_t k, const double *m,
                                 double temperature, const int64_t *pivot, double *w, double *sums)
{
    for (size_t i = 0; i < n; i++, w += k) {
        const float *x = (const float *)z + i * k;
        const double *y = (const double *)z + i * k;
        size_t left_out = (size_t)pivot[i];
        sums[i] = single ? exponentials(x, 1, k, m[i], temperature, left_out, w)
                         : exponentials(y, 0, k, m[i], temperature, left_out, w);
    }
}

/* Writes exp(d) of single numbers, the same bits as in rows. */
LOOPS void softgrad_exponential(const double *d, size_t n, double *w)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        w[i] = exponential(d[i]);
}

/* log(1 + t) for |t| <= 2^-9: six terms of its series, the seventh is below 2^-56 of it. The bracket
   differs from 1 by less than 2^-9, so that rounding costs two units (u = 2^-53) and next to nothing. */
INLINE double log1p_near_zero(double t)
{
    double t2 = t * t;
    double tail = (1.0 / 2 - t * (1.0 / 3)) + t2 * ((1.0 / 4 - t * (1.0 / 5)) + t2 * (1.0 / 6));
    return t * (1.0 - t * tail);
}

INLINE double log_ratio(double w, double slope, double curve)
{
    return log1p_near_zero((w * curve + slope) * w);
}

/* Numbers >= 0, for the extremes of many: clang takes those in any order of whole numbers alone, which lie in
   the same order, and GCC of numbers too, which is faster. */
#ifdef __clang__
typedef int64_t magnitude;
#define MAGNITUDE(x) bits_of(x)
#define NUMBER(x) of_bits(x)
#else
typedef double magnitude;
#define MAGNITUDE(x) (x)
#define NUMBER(x) (x)
#endif

struct step { /* of a logit: E+ - E- and E-, expm1 of the steps up and down, and what lies between these */
    double span, down, width;
};

/* Of each row, n one after the other: the sum of the log ratios, the lowest and the highest of them over w,
   and the farthest that one of these lies from width times inverse, times w. The last three are not numbers
   where one is none in the row, or where more than `gaps` entries have w = 0. */
struct quotients {
    double *sum, *lowest, *highest, *farthest;
};

INLINE struct quotients of_rows(double *found, size_t n)
{
    return (struct quotients){found, found + n, found + 2 * n, found + 3 * n};
}

INLINE void keep(struct quotients of, size_t i, double none, double gaps)
{
    if (!(none <= gaps) || of.sum[i] != of.sum[i])
        of.lowest[i] = of.highest[i] = of.farthest[i] = NAN;
}

LOOPS void softgrad_quotients(const double *w, size_t n, size_t k, const double *inverse, struct step by,
                              double gaps, double *found)
{
    struct quotients of = of_rows(found, n);
    double ratios[CHUNK];
    for (size_t i = 0; i < n; i++) {
        double slope = by.span * inverse[i], curve = -slope * by.down * inverse[i];
        double middle = by.width * inverse[i], none = 0.0;
        magnitude lowest = MAGNITUDE(middle), highest = lowest, farthest = MAGNITUDE(0.0);
        struct sum sum = {0.0, 0.0};
        for (size_t from = 0; from < k; from += CHUNK) {
            size_t size = k - from < CHUNK ? k - from : CHUNK;
            if (size < CHUNK)
                memset(ratios, 0, sizeof ratios);
#pragma omp simd reduction(min : lowest) reduction(max : highest, farthest) reduction(+ : none)
            for (size_t j = 0; j < size; j++) {
                double ratio = log_ratio(w[j], slope, curve), q = w[j] > 0.0 ? ratio / w[j] : middle;
                magnitude off = MAGNITUDE(fabs(q - middle) * w[j]), size_of = MAGNITUDE(q);
                ratios[j] = ratio;
                lowest = size_of < lowest ? size_of : lowest;
                highest = size_of > highest ? size_of : highest;
                farthest = off > farthest ? off : farthest;
                none += w[j] == 0.0 ? 1.0 : 0.0;
            }
            add(&sum, tree_sum(ratios));
            w += size;
        }
        of.sum[i] = sum.rounded + sum.lost;
        of.lowest[i] = NUMBER(lowest);
        of.highest[i] = NUMBER(highest);
        of.farthest[i] = NUMBER(farthest);
        keep(of, i, none, gaps);
    }
}

/* The same of columns, which are `stride` apart. */
LOOPS void softgrad_quotients_by_columns(const double *w, size_t stride, size_t n, size_t k,
                                         const double *inverse, struct step by, double gaps, double *found)
{
    struct quotients of = of_rows(found, n);
    double slope[CHUNK], curve[CHUNK], middle[CHUNK], none[CHUNK];
    for (size_t from = 0; from < n; from += CHUNK) {
        size_t size = n - from < CHUNK ? n - from : CHUNK;
        double *sum = of.sum + from, *lowest = of.lowest + from, *highest = of.highest + from;
        double *farthest = of.farthest + from;
        for (size_t i = 0; i < size; i++) {
            slope[i] = by.span * inverse[from + i];
            curve[i] = -slope[i] * by.down * inverse[from + i];
            lowest[i] = highest[i] = middle[i] = by.width * inverse[from + i];
            sum[i] = farthest[i] = none[i] = 0.0;
        }
        for (size_t j = 0; j < k; j++) {
            const double *x = w + j * stride + from;
#pragma omp simd
            for (size_t i = 0; i < size; i++) {
                double ratio = log_ratio(x[i], slope[i], curve[i]), q = ratio / x[i];
                double off = fabs(q - middle[i]) * x[i];
                sum[i] += ratio;
                lowest[i] = q < lowest[i] ? q : lowest[i];
                highest[i] = q > highest[i] ? q : highest[i];
                farthest[i] = off > farthest[i] ? off : farthest[i];
                none[i] += x[i] == 0.0 ? 1.0 : 0.0;
            }
        }
        for (size_t i = 0; i < size; i++)
            keep(of, from + i, none[i], gaps);
    }
}

INLINE double power_below(double x) /* of a normal number > 0 */
{
    return of_bits(bits_of(x) & 0x7ff0000000000000);
}

/* With s = |w factor| or the least normal number, P the power of two below s or the least normal number of
   the format, u its unit: limits of error / u P and of error / (sloped s + u P + floor), and what zeros may
   be off by more, relatively: infinity where they are excused. */
struct limits {
    double spacings, margin, unit, least_normal, excuse;
};

/* Of each row, n one after the other: what times w is right, and limits of the error, of error / s, and for
   `limits`, finite all of them. */
struct rows {
    const double *factor, *absolute, *relative, *sloped, *floor;
};

INLINE struct rows rows_of(const double *given, size_t n)
{
    return (struct rows){given, given + n, given + 2 * n, given + 3 * n, given + 4 * n};
}

/* 1 where an entry exceeds one of its limits or is not a number, else 0. Zeros are excused, and the margin
   is a limit, of 16-bit formats alone. Far down, where a product may be subnormal, nothing is allowed. */
INLINE double exceeds(double w, double got, struct rows of, size_t i, struct limits in, int half)
{
    double right = w * of.factor[i], error = fabs(got - right), size = greater(fabs(right), 0x1p-1022);
    double spacing = greater(power_below(size), in.least_normal) * in.unit, limit = of.relative[i] * size;
    if (half)
        limit += got == 0.0 ? in.excuse : 0.0;
    limit = lesser(lesser(of.absolute[i], limit), in.spacings * spacing);
    if (half)
        limit = lesser(limit, in.margin * (size * of.sloped[i] + spacing + of.floor[i]));
    limit = lesser(limit, size < 0x1p-900 ? 0.0 : INFINITY);
    return error <= limit ? 0.0 : 1.0;
}

struct places {
    int64_t *pairs;
    size_t room;
};

INLINE size_t note(struct places to, size_t found, size_t row, size_t column)
{
    if (found < to.room) {
        to.pairs[2 * found] = (int64_t)row;
        to.pairs[2 * found + 1] = (int64_t)column;
    }
    return found + 1;
}

/* Notes which of some entries exceed their limits: those of row i for all, or, in column j, of a row each. */
INLINE size_t search(const double *w, const void *got, size_t size, struct rows of, size_t i, size_t j,
                     int by_columns, int single, struct limits in, int half, struct places to, size_t found)
{
    for (size_t from = 0; from < size; from += CHUNK) {
        size_t until = size - from < CHUNK ? size : from + CHUNK;
        double some = 0.0;
#pragma omp simd reduction(+ : some)
        for (size_t at = from; at < until; at++)
            some += exceeds(w[at], entry(got, at, single), of, by_columns ? at : i, in, half);
        for (size_t at = from; some > 0.0 && at < until; at++)
            if (exceeds(w[at], entry(got, at, single), of, by_columns ? at : i, in, half) > 0.0)
                found = by_columns ? note(to, found, at, j) : note(to, found, i, at);
    }
    return found;
}

/* Where entries exceed a limit: row and column of the first `room` of them. Returns how many there are. */
LOOPS size_t softgrad_beyond(const double *w, const void *got, int single, size_t n, size_t k,
                             const double *given, struct limits in, size_t room, int64_t *places)
{
    struct rows of = rows_of(given, n);
    struct places to = {places, room};
    size_t found = 0;
    for (size_t i = 0; i < n; i++, w += k) {
        const float *x = (const float *)got + i * k;
        const double *y = (const double *)got + i * k;
        if (in.margin < INFINITY)
            found = single ? search(w, x, k, of, i, 0, 0, 1, in, 1, to, found)
                           : search(w, y, k, of, i, 0, 0, 0, in, 1, to, found);
        else
            found = single ? search(w, x, k, of, i, 0, 0, 1, in, 0, to, found)
                           : search(w, y, k, of, i, 0, 0, 0, in, 0, to, found);
    }
    return found;
}

/* The same of columns, which are `stride` apart in both planes; the places are those of one column first. */
LOOPS size_t softgrad_beyond_by_columns(const double *w, const double *got, size_t stride, size_t n, size_t k,
                                        const double *given, struct limits in, size_t room, int64_t *places)
{
    struct rows of = rows_of(given, n);
    struct places to = {places, room};
    size_t found = 0;
    for (size_t j = 0; j < k; j++, w += stride, got += stride)
        found = in.margin < INFINITY ? search(w, got, n, of, 0, j, 1, 0, in, 1, to, found)
                                     : search(w, got, n, of, 0, j, 1, 0, in, 0, to, found);
    return found;
}
