// choose-mapping and lower-task-to-gpu: a product with its bias and activation on tensor cores, weights known to be constant.
// RUN: %mlc-opt %s --target=cuda:sm_80 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_80 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=GPU

// CHECK: "task.alloc"() {level = "shared", offset = {{[0-9]+}} : i64, pitch = {{[0-9]+}} : i64}
// CHECK: "task.mma"
// CHECK-SAME: atom = "mma.m16n8k16.f16"
// CHECK-SAME: stages = {{[0-9]+}} : i64, step = 64 : i64, warps = [{{.*}}]
// CHECK: "task.foreach"
// CHECK: map = #task.map<
// CHECK: shared = {{[0-9]+}} : i64
// CHECK-SAME: threads = 128 : i64

// GPU: gpu.module @kernels
// GPU: gpu.func @kernel_0
// GPU-SAME: known_block_size = array<i32: 128, 1, 1>
// GPU-SAME: task.grid
// GPU: nvgpu.device_async_copy
// GPU: nvgpu.ldmatrix
// GPU: nvgpu.mma.sync
// GPU: gpu.barrier
func.func @main(%x: tensor<128x256xf16>, %w: tensor<256x512xf16>, %b: tensor<512xf16>) -> tensor<128x512xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<128x256xf16>, tensor<256x512xf16>) -> tensor<128x512xf16>
  %1 = "graph.elementwise"(%0, %b) {fn = "add"} : (tensor<128x512xf16>, tensor<512xf16>) -> tensor<128x512xf16>
  %2 = "graph.elementwise"(%1) {fn = "relu"} : (tensor<128x512xf16>) -> tensor<128x512xf16>
  return %2 : tensor<128x512xf16>
}
