// keep-wide: 16-bit results that stay in registers are f32, up to where the kernel writes to memory.
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v4 --pass-pipeline='builtin.module(lower-graph-to-tile,connect,choose-tiles,keep-wide,mlc-dce)' | filecheck %s

// The sum of products, the bias and the relu: one rounding, at the end.
// CHECK-LABEL: func.func @once
// CHECK-NOT: arith.truncf
// CHECK: arith.maximumf
// CHECK-NEXT: arith.truncf {{.*}} : f32 to f16
// CHECK-NOT: arith.truncf
// CHECK: return
func.func @once(%x: tensor<256x128xf16>, %w: tensor<128x256xf16>, %b: tensor<256xf16>) -> tensor<256x256xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<256x128xf16>, tensor<128x256xf16>) -> tensor<256x256xf16>
  %1 = "graph.elementwise"(%0, %b) {fn = "add"} : (tensor<256x256xf16>, tensor<256xf16>) -> tensor<256x256xf16>
  %2 = "graph.elementwise"(%1) {fn = "relu"} : (tensor<256x256xf16>) -> tensor<256x256xf16>
  return %2 : tensor<256x256xf16>
}

// -----

// bf16, whose rounding is written out.
// CHECK-LABEL: func.func @bf16
// CHECK: arith.negf {{.*}} : f32
// CHECK-NEXT: linalg.yield {{.*}} : f32
// CHECK: arith.bitcast {{.*}} : i16 to bf16
// CHECK-NOT: arith.bitcast {{.*}} : i16 to bf16
// CHECK: return
func.func @bf16(%x: tensor<4096xbf16>) -> tensor<4096xbf16> {
  %0 = "graph.elementwise"(%x) {fn = "neg"} : (tensor<4096xbf16>) -> tensor<4096xbf16>
  %1 = "graph.elementwise"(%0) {fn = "exp"} : (tensor<4096xbf16>) -> tensor<4096xbf16>
  return %1 : tensor<4096xbf16>
}

// -----

// A conversion that the model asks for.
// CHECK-LABEL: func.func @asked
// CHECK: linalg.generic {{.*}} tile.rounds
// CHECK: arith.truncf {{.*}} : f32 to f16
// CHECK: arith.extf {{.*}} : f16 to f32
// CHECK: return
func.func @asked(%x: tensor<4096xf32>) -> tensor<4096xf32> {
  %0 = "graph.cast"(%x) {to = f16} : (tensor<4096xf32>) -> tensor<4096xf16>
  %1 = "graph.cast"(%0) {to = f32} : (tensor<4096xf16>) -> tensor<4096xf32>
  %2 = "graph.elementwise"(%1) {fn = "exp"} : (tensor<4096xf32>) -> tensor<4096xf32>
  return %2 : tensor<4096xf32>
}

// -----

// One of two numbers that are compared: the other may have been rounded.
// CHECK-LABEL: func.func @compared
// CHECK: arith.negf
// CHECK-NEXT: arith.truncf {{.*}} : f32 to f16
// CHECK: arith.cmpf
// CHECK: return
func.func @compared(%x: tensor<4096xf16>, %y: tensor<4096xf16>) -> tensor<4096xi1> {
  %0 = "graph.elementwise"(%x) {fn = "neg"} : (tensor<4096xf16>) -> tensor<4096xf16>
  %1 = "graph.elementwise"(%0, %y) {fn = "eq"} : (tensor<4096xf16>, tensor<4096xf16>) -> tensor<4096xi1>
  return %1 : tensor<4096xi1>
}
