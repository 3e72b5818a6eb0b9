// align-factors: warpgroups multiply f32 as tf32 only along the reduction, so a large factor that lies across is turned; mma.sync takes it as it is.
// RUN: %mlc-opt %s --target=cuda:sm_90a,atoms=mma.m16n8k8.tf32 --pass-pipeline='builtin.module(lower-graph-to-tile,connect,align-factors)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_80,atoms=mma.m16n8k8.tf32 --pass-pipeline='builtin.module(lower-graph-to-tile,connect,align-factors)' | filecheck %s --check-prefix=SAME
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,connect,align-factors)' | filecheck %s --check-prefix=SAME

// CHECK-LABEL: func.func @main
// CHECK: "tile.graph"(%arg1)
// CHECK: (tensor<4096x2048xf32>) -> tensor<2048x4096xf32>
// CHECK: (tensor<4096x4096xf32>, tensor<2048x4096xf32>) -> tensor<4096x2048xf32>
// SAME-LABEL: func.func @main
// SAME: "tile.graph"(%arg0, %arg1)
// SAME-NOT: "tile.graph"
func.func @main(%x: tensor<4096x4096xf32>, %w: tensor<4096x2048xf32>) -> tensor<4096x2048xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<4096x4096xf32>, tensor<4096x2048xf32>) -> tensor<4096x2048xf32>
  return %0 : tensor<4096x2048xf32>
}
