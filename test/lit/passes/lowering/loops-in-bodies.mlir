// A body with loops over scalars is canonical: many blocks of many threads on a GPU, a loop nest on a CPU; elsewhere it would be one thread.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=GPU
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,cpu-kernel-pipeline)' | filecheck %s --check-prefix=CPU

// CHECK: "task.foreach"
// CHECK: scf.for
// CHECK: memref.load %{{.*}} : memref<1x3x10x10xf32>
// CHECK: map = #task.map<{{.*}}spatial(64, 1)
// GPU: gpu.func
// GPU: scf.for
// GPU: memref.load %{{.*}} : memref<300xf32
// CPU: scf.for
// CPU: memref.load %{{.*}} : memref<300xf32
func.func @main(%x: tensor<1x3x10x10xf32>, %r: tensor<7x4xf32>, %b: tensor<7xi64>) -> tensor<7x3x5x5xf32> {
  %y = "graph.roi_align"(%x, %r, %b) {mode = "avg", height = 5, width = 5, sampling = 0, scale = 1.0, half_pixel = true}
      : (tensor<1x3x10x10xf32>, tensor<7x4xf32>, tensor<7xi64>) -> tensor<7x3x5x5xf32>
  return %y : tensor<7x3x5x5xf32>
}
