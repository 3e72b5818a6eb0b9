// Products of f32 where tf32 is allowed: tensor cores, factors rounded before they are read. What lies across is loaded one by one.
// RUN: %mlc-opt %s --target=cuda:sm_80,atoms=mma.m16n8k8.tf32 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_80,atoms=mma.m16n8k8.tf32 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=GPU
// RUN: %mlc-opt %s --target=cuda:sm_80 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s --check-prefix=PLAIN

// CHECK: "task.mma"
// CHECK-SAME: atom = "mma.m16n8k8.tf32"
// CHECK-SAME: step = 32 : i64
// PLAIN: "task.mma"
// PLAIN-SAME: atom = "fma.

// GPU: nvgpu.device_async_copy
// GPU: nvgpu.ldmatrix {{.*}} -> vector<4x1xf32>
// GPU: arith.andi {{.*}} : vector<4xi32>
// GPU: arith.addf {{.*}} : vector<4xf32>
// GPU: memref.load
// GPU: vector.from_elements {{.*}} : vector<4x1xf32>
// GPU: nvgpu.mma.sync({{.*}}) {mmaShape = [16, 8, 8], tf32Enabled} : (vector<4x1xf32>, vector<2x1xf32>, vector<2x2xf32>)
func.func @main(%x: tensor<128x256xf32>, %w: tensor<256x512xf32>) -> tensor<128x512xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<128x256xf32>, tensor<256x512xf32>) -> tensor<128x512xf32>
  return %0 : tensor<128x512xf32>
}
