// integer-products: zero points leave a product of 8-bit codes, which then is one of signed codes. CPUs keep the product as it is.
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(integer-products,mlc-cse,mlc-dce)' | filecheck %s
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(integer-products,mlc-cse,mlc-dce,lower-graph-to-tile,narrow-factors,mlc-dce)' | filecheck %s --check-prefix=TILE
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(integer-products)' | filecheck %s --check-prefix=CPU

// CHECK-DAG: [[X:%.*]] = "graph.cast"(%{{.*}}) {to = i32} : (tensor<16x64xi8>) -> tensor<16x64xi32>
// CHECK-DAG: [[W:%.*]] = "graph.cast"(%arg1) {to = i32}
// CHECK: "graph.matmul"([[X]], [[W]])
// CHECK: "graph.reduce"([[W]]) {axes = [0], keepdims = true, kind = "sum"}
// TILE: ins(%{{.*}}, %{{.*}} : tensor<16x64xi8>, tensor<64x32xi8>)
// CPU: [[C:%.*]] = "graph.elementwise"
// CPU: "graph.matmul"([[C]], %{{.*}})
func.func @main(%x: tensor<16x64xui8>, %w: tensor<64x32xi8>, %zero: tensor<i32>) -> tensor<16x32xi32> {
  %0 = "graph.cast"(%x) {to = i32} : (tensor<16x64xui8>) -> tensor<16x64xi32>
  %1 = "graph.elementwise"(%0, %zero) {fn = "sub"} : (tensor<16x64xi32>, tensor<i32>) -> tensor<16x64xi32>
  %2 = "graph.cast"(%w) {to = i32} : (tensor<64x32xi8>) -> tensor<64x32xi32>
  %3 = "graph.matmul"(%1, %2) : (tensor<16x64xi32>, tensor<64x32xi32>) -> tensor<16x32xi32>
  return %3 : tensor<16x32xi32>
}
