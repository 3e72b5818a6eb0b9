// The named pipeline: from graph ops to one vector kernel and the plan that launches it.
// RUN: %mlc-opt %s --target=cpu:x86-64-v4 -cpu-pipeline | filecheck %s

// CHECK-LABEL: func.func @kernel_0(
// CHECK: vector.fma
// CHECK-LABEL: func.func @main(
// CHECK-SAME: task.arena
// CHECK: "task.launch"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) {kernel = "kernel_0"
// CHECK-NOT: task.launch
func.func @main(%x: tensor<32x64xf32>, %w: tensor<64x48xf32>, %b: tensor<48xf32>) -> tensor<32x48xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<32x64xf32>, tensor<64x48xf32>) -> tensor<32x48xf32>
  %1 = "graph.elementwise"(%0, %b) {fn = "add"} : (tensor<32x48xf32>, tensor<48xf32>) -> tensor<32x48xf32>
  %2 = "graph.elementwise"(%1) {fn = "gelu"} : (tensor<32x48xf32>) -> tensor<32x48xf32>
  return %2 : tensor<32x48xf32>
}
