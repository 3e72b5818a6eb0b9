// choose-mapping and lower-task-to-gpu for FMA units: tiles of sums in registers, stages by depth, with cp.async and without.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=ASYNC
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_75 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=PLAIN

// The left factor is turned by copies of single elements, the right one comes 16 bytes at a time.
// CHECK: "task.mma"
// CHECK-SAME: atom = "fma.
// CHECK-SAME: stages = 3 : i64, step = 16 : i64
// ASYNC: gpu.func @kernel_0
// ASYNC: nvgpu.device_async_copy {{.*}}, 1 : memref<{{.*}}xf32
// ASYNC: nvgpu.device_async_copy {{.*}}, 4 {bypassL1} : memref<{{.*}}xf32
// ASYNC: scf.for
// ASYNC: gpu.barrier
// ASYNC: vector.load {{.*}}#gpu.address_space<workgroup>>, vector<4xf32>
// ASYNC: math.fma {{.*}} : vector<4xf32>
// PLAIN: gpu.func @kernel_0
// PLAIN: scf.for
// PLAIN: gpu.barrier
// PLAIN: vector.load {{.*}}#gpu.address_space<global>>
// PLAIN: math.fma {{.*}} : vector<4xf32>
// PLAIN: vector.store {{.*}}#gpu.address_space<workgroup>>
func.func @main(%x: tensor<4096x4096xf32>, %w: tensor<4096x4096xf32>) -> tensor<4096x4096xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<4096x4096xf32>, tensor<4096x4096xf32>) -> tensor<4096x4096xf32>
  return %0 : tensor<4096x4096xf32>
}

// -----

// CHECK: "task.mma"
// CHECK-SAME: atom = "fma.
// ASYNC: math.fma {{.*}} : vector<2xf64>
// PLAIN: math.fma {{.*}} : vector<2xf64>
func.func @main(%x: tensor<512x512xf64>, %w: tensor<512x512xf64>) -> tensor<512x512xf64> {
  %0 = "graph.matmul"(%x, %w) : (tensor<512x512xf64>, tensor<512x512xf64>) -> tensor<512x512xf64>
  return %0 : tensor<512x512xf64>
}
