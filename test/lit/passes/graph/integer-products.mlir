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

// Zeros around a convolution's input are codes of its zero point first; weights around 128 are signed codes that have none.
// CHECK-LABEL: func.func @conv
// CHECK: "graph.pad"(%arg0, {{.*}}) {high = [0, 2, 1, 0], low = [0, 1, 0, 0]} : (tensor<1x8x8x16xui8>, tensor<ui8>)
// CHECK: "graph.conv"
// CHECK: "graph.reduce"({{.*}}) {axes = [0, 1, 2], kind = "sum"}
// CHECK-NOT: "graph.conv"
// TILE-LABEL: func.func @conv
// TILE: ins(%{{.*}}, %{{.*}} : tensor<1x11x9x16xi8>, tensor<3x2x16x32xi8>)
func.func @conv(%x: tensor<1x8x8x16xui8>, %w: tensor<3x2x16x32xui8>) -> tensor<1x9x8x32xi32> {
  %zx = "graph.constant"() {bytes = "83000000"} : () -> tensor<i32>
  %zw = "graph.constant"() {bytes = "80000000"} : () -> tensor<i32>
  %0 = "graph.cast"(%x) {to = i32} : (tensor<1x8x8x16xui8>) -> tensor<1x8x8x16xi32>
  %1 = "graph.elementwise"(%0, %zx) {fn = "sub"} : (tensor<1x8x8x16xi32>, tensor<i32>) -> tensor<1x8x8x16xi32>
  %2 = "graph.pad"(%1) {low = [0, 1, 0, 0], high = [0, 2, 1, 0]} : (tensor<1x8x8x16xi32>) -> tensor<1x11x9x16xi32>
  %3 = "graph.cast"(%w) {to = i32} : (tensor<3x2x16x32xui8>) -> tensor<3x2x16x32xi32>
  %4 = "graph.elementwise"(%3, %zw) {fn = "sub"} : (tensor<3x2x16x32xi32>, tensor<i32>) -> tensor<3x2x16x32xi32>
  %5 = "graph.conv"(%2, %4) {dilations = [1, 1], layout = "nhwc", strides = [1, 1]} : (tensor<1x11x9x16xi32>, tensor<3x2x16x32xi32>) -> tensor<1x9x8x32xi32>
  return %5 : tensor<1x9x8x32xi32>
}
