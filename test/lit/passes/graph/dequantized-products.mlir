// dequantized-products: codes are multiplied, and their scales are a factor of the sums, where the target has an atom for the encoding.
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(dequantized-products,mlc-dce)' | filecheck %s
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(dequantized-products,mlc-dce,lower-graph-to-tile)' | filecheck %s --check-prefix=TILE
// RUN: %mlc-opt %s --target=rocm:gfx90a --pass-pipeline='builtin.module(dequantized-products,mlc-dce)' | filecheck %s --check-prefix=WIDE
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(dequantized-products,mlc-dce)' | filecheck %s --check-prefix=WIDE

// CHECK-LABEL: func.func @float8
// CHECK: [[Y:%.*]] = "graph.matmul"(%arg0, %arg1) : (tensor<16x64xf8E4M3FNUZ>, tensor<64x32xf8E5M2FNUZ>) -> tensor<16x32xf32>
// CHECK: "graph.elementwise"([[Y]], %{{.*}}) {fn = "mul"} : (tensor<16x32xf32>, tensor<1x32xf32>) -> tensor<16x32xf32>
// TILE-LABEL: func.func @float8
// TILE: arith.bitcast %{{.*}} : i8 to f8E4M3FNUZ
// TILE: arith.bitcast %{{.*}} : i8 to f8E5M2FNUZ
// WIDE-LABEL: func.func @float8
// WIDE: "graph.matmul"(%{{.*}}, %{{.*}}) : (tensor<16x64xf32>, tensor<64x32xf32>) -> tensor<16x32xf32>
func.func @float8(%x: tensor<16x64xf8E4M3FNUZ>, %w: tensor<64x32xf8E5M2FNUZ>, %s: tensor<32xf32>) -> tensor<16x32xf32> {
  %zero = "graph.constant"() {bytes = "00"} : () -> tensor<f8E5M2FNUZ>
  %0 = "graph.cast"(%x) {to = f32} : (tensor<16x64xf8E4M3FNUZ>) -> tensor<16x64xf32>
  %1 = "graph.dequantize"(%w, %s, %zero) {axis = 1, to = f32} : (tensor<64x32xf8E5M2FNUZ>, tensor<32xf32>, tensor<f8E5M2FNUZ>) -> tensor<64x32xf32>
  %2 = "graph.matmul"(%0, %1) : (tensor<16x64xf32>, tensor<64x32xf32>) -> tensor<16x32xf32>
  return %2 : tensor<16x32xf32>
}

// The sums of integers are exact.
// CHECK-LABEL: func.func @integers
// CHECK: "graph.matmul"(%{{.*}}, %{{.*}}) : (tensor<16x64xi32>, tensor<64x32xi32>) -> tensor<16x32xi32>
func.func @integers(%x: tensor<16x64xui8>, %w: tensor<64x32xi8>, %sx: tensor<f32>, %zx: tensor<ui8>, %s: tensor<32xf32>) -> tensor<16x32xf32> {
  %zero = "graph.constant"() {bytes = "00"} : () -> tensor<i8>
  %0 = "graph.dequantize"(%x, %sx, %zx) {to = f32} : (tensor<16x64xui8>, tensor<f32>, tensor<ui8>) -> tensor<16x64xf32>
  %1 = "graph.dequantize"(%w, %s, %zero) {axis = 1, to = f32} : (tensor<64x32xi8>, tensor<32xf32>, tensor<i8>) -> tensor<64x32xf32>
  %2 = "graph.matmul"(%0, %1) : (tensor<16x64xf32>, tensor<64x32xf32>) -> tensor<16x32xf32>
  return %2 : tensor<16x32xf32>
}

// A scale of each depth point cannot leave the sum.
// CHECK-LABEL: func.func @depth
// CHECK: "graph.matmul"(%{{.*}}, %{{.*}}) : (tensor<16x64xf32>, tensor<64x32xf32>) -> tensor<16x32xf32>
func.func @depth(%x: tensor<16x64xi8>, %w: tensor<64x32xi8>, %s: tensor<64xf32>) -> tensor<16x32xf32> {
  %zero = "graph.constant"() {bytes = "00"} : () -> tensor<i8>
  %0 = "graph.dequantize"(%x, %s, %zero) {axis = 1, to = f32} : (tensor<16x64xi8>, tensor<64xf32>, tensor<i8>) -> tensor<16x64xf32>
  %1 = "graph.dequantize"(%w, %s, %zero) {axis = 0, to = f32} : (tensor<64x32xi8>, tensor<64xf32>, tensor<i8>) -> tensor<64x32xf32>
  %2 = "graph.matmul"(%0, %1) : (tensor<16x64xf32>, tensor<64x32xf32>) -> tensor<16x32xf32>
  return %2 : tensor<16x32xf32>
}
