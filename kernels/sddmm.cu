// SDDMM: the gradient of a sparse weight at its nonzeros.
//
//   partial[chunk, i] = sum over the tokens t of the chunk of dy[r, t] * x[c, t]   for the i-th nonzero (r, c)
//   dw[i] += partial[0, i] + partial[1, i] + ...
//
// dY [rows, tokens], X [cols, tokens], rows `stride` apart, a multiple of 128 times the number of chunks. Numbers
// behind the last token must be zero in dY or in X. Sums over chunks are kept apart and added in their order, so that
// the result does not depend on which block is first; no atomics.
//
// Floor: nnz * tokens multiply-adds with a load each; rows of X come from the second cache where the chunk fits there.
#include "common.cuh"

// One warp a row of dY, which stays in the first cache while the nonzeros of the row are gone through.
extern "C" __global__ void __launch_bounds__(256)
    sddmm_f32(const unsigned* __restrict__ row_ptr, const unsigned* __restrict__ col_idx,
              const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ partial, unsigned rows,
              unsigned nnz, unsigned stride) {
    const unsigned row = blockIdx.x * (blockDim.x / kWarpSize) + warp_of_thread();
    if (row >= rows) return;
    const unsigned tokens = stride / gridDim.y, first = blockIdx.y * tokens;
    const float* dy_row = dy + size_t(row) * stride + first;
    for (unsigned i = row_ptr[row]; i < row_ptr[row + 1]; ++i) {
        const float* x_row = x + size_t(col_idx[i]) * stride + first;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (unsigned t = lane_of_thread() * 4; t < tokens; t += kWarpSize * 4) {
            const float4 a = *reinterpret_cast<const float4*>(dy_row + t);
            const float4 b = *reinterpret_cast<const float4*>(x_row + t);
            sum.x = __fmaf_rn(a.x, b.x, sum.x);
            sum.y = __fmaf_rn(a.y, b.y, sum.y);
            sum.z = __fmaf_rn(a.z, b.z, sum.z);
            sum.w = __fmaf_rn(a.w, b.w, sum.w);
        }
        const float total = warp_sum((sum.x + sum.y) + (sum.z + sum.w));
        if (lane_of_thread() == 0) partial[size_t(blockIdx.y) * nnz + i] = total;
    }
}

// The same with bf16 activations, two tokens a word: rows `stride` tokens apart, a multiple of 256 times the chunks.
extern "C" __global__ void __launch_bounds__(256)
    sddmm_bf16(const unsigned* __restrict__ row_ptr, const unsigned* __restrict__ col_idx,
               const unsigned* __restrict__ dy, const unsigned* __restrict__ x, float* __restrict__ partial,
               unsigned rows, unsigned nnz, unsigned stride) {
    const unsigned row = blockIdx.x * (blockDim.x / kWarpSize) + warp_of_thread();
    if (row >= rows) return;
    const unsigned words = stride / 2 / gridDim.y, first = blockIdx.y * words;
    const unsigned* dy_row = dy + size_t(row) * (stride / 2) + first;
    for (unsigned i = row_ptr[row]; i < row_ptr[row + 1]; ++i) {
        const unsigned* x_row = x + size_t(col_idx[i]) * (stride / 2) + first;
        float sum[2] = {0.0f, 0.0f};
        for (unsigned t = lane_of_thread() * 4; t < words; t += kWarpSize * 4) {
            const uint4 a = *reinterpret_cast<const uint4*>(dy_row + t);
            const uint4 b = *reinterpret_cast<const uint4*>(x_row + t);
            const unsigned as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (unsigned j = 0; j < 4; ++j) {
                sum[0] = __fmaf_rn(low_bf16(as[j]), low_bf16(bs[j]), sum[0]);
                sum[1] = __fmaf_rn(high_bf16(as[j]), high_bf16(bs[j]), sum[1]);
            }
        }
        const float total = warp_sum(sum[0] + sum[1]);
        if (lane_of_thread() == 0) partial[size_t(blockIdx.y) * nnz + i] = total;
    }
}

// dw[i] += the partial sums of n numbers, chunk after chunk.
extern "C" __global__ void __launch_bounds__(256)
    add_partial_sums(const float* __restrict__ partial, float* __restrict__ dw, unsigned n, unsigned chunks) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = dw[i];
    for (unsigned chunk = 0; chunk < chunks; ++chunk) sum += partial[size_t(chunk) * n + i];
    dw[i] = sum;
}
