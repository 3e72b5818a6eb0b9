// task: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK: "task.kernel"() ({
// CHECK-NEXT: ^bb0(%{{.*}}: memref<64xf32>, %{{.*}}: memref<64xf32>, %{{.*}}: index):
// CHECK-NEXT: "task.foreach"() ({
// CHECK: "task.end"() : () -> ()
// CHECK-NEXT: }) {grid = [4], inputs = 1 : i64, sym_name = "relu", threads = 128 : i64} : () -> ()
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %y: memref<64xf32>, %b: index):
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%x, %i, %b) {map = affine_map<(d0, d1) -> (d0 + d1 * 16)>} : (memref<64xf32>, index, index) -> f32
    %zero = arith.constant 0.0 : f32
    %r = arith.maximumf %v, %zero : f32
    "task.store"(%r, %y, %i, %b) {map = affine_map<(d0, d1) -> (d0 + d1 * 16)>} : (f32, memref<64xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [16]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "relu", grid = [4], inputs = 1, threads = 128} : () -> ()

// CHECK-LABEL: func.func @inside_a_block(
func.func @inside_a_block(%x: memref<64xf32>, %i: index, %o: index) {
  // CHECK: "task.alloc"() {level = "shared"} : () -> memref<16x64xf32>
  // CHECK: "task.alloc"() {level = "shared", offset = 4096 : i64, pitch = 68 : i64} : () -> memref<16x64xf32>
  %s = "task.alloc"() {level = "shared"} : () -> memref<16x64xf32>
  %t = "task.alloc"() {level = "shared", pitch = 68, offset = 4096} : () -> memref<16x64xf32>
  // CHECK: "task.load"(%{{.*}}) {map = #{{.*}}} : (memref<64xf32>, index, index) -> f32
  %v = "task.load"(%x, %i, %o) {map = affine_map<(d0, d1) -> (d0 + d1)>} : (memref<64xf32>, index, index) -> f32
  // CHECK: "task.store"(%{{.*}}) {map = #{{.*}}} : (f32, memref<64xf32>, index, index) -> ()
  "task.store"(%v, %x, %i, %o) {map = affine_map<(d0, d1) -> (d0 + d1)>} : (f32, memref<64xf32>, index, index) -> ()
  // CHECK: "task.barrier"() {scope = "grid"} : () -> ()
  "task.barrier"() {scope = "grid"} : () -> ()
  return
}

// CHECK-LABEL: func.func @foreach(
// CHECK: "task.foreach"() ({
// CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: index):
// CHECK: }) {extents = [16, 64], map = #task.map<repeat(2, 1) * spatial(128, 1) * repeat(4, 1)>} : () -> ()
func.func @foreach(%x: memref<64xf32>, %y: memref<16x64xf32>) {
  "task.foreach"() ({
  ^bb0(%i: index, %j: index):
    %v = "task.load"(%x, %j) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
    "task.store"(%v, %y, %i, %j) {map = affine_map<(d0, d1) -> (d0, d1)>} : (f32, memref<16x64xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [16, 64], map = #task.map<repeat(2, 1) * spatial(128, 1) * repeat(4, 1)>} : () -> ()
  return
}

// CHECK-LABEL: func.func @reduce(
// CHECK: "task.reduce"(%{{.*}}) ({
// CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: f32):
// CHECK: "task.yield"(%{{.*}}) : (f32) -> ()
// CHECK-NEXT: }) {combine = ["addf"], extents = [64]} : (f32) -> f32
func.func @reduce(%x: memref<64xf32>, %zero: f32) {
  %s = "task.reduce"(%zero) ({
  ^bb0(%k: index, %acc: f32):
    %v = "task.load"(%x, %k) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
    %n = arith.addf %acc, %v : f32
    "task.yield"(%n) : (f32) -> ()
  }) {extents = [64], combine = ["addf"]} : (f32) -> f32
  return
}

// CHECK-LABEL: func.func @mma(
// CHECK: "task.mma"(%{{.*}}) {atom = "fma", extents = [16, 64, 256], maps = [#{{.*}}, #{{.*}}, #{{.*}}], reductions = 1 : i64}
// CHECK: "task.mma"(%{{.*}}) {{{.*}}, reductions = 1 : i64, stages = 3 : i64, step = 16 : i64, warps = [1, 4, 1]}
func.func @mma(%a: memref<32x256xf32>, %b: memref<256x64xf32>, %c: memref<32x64xf32>, %o: index) {
  "task.mma"(%a, %b, %c, %o) {atom = "fma", extents = [16, 64, 256], reductions = 1, maps = [
    affine_map<(m, n, k, o) -> (m + o, k)>, affine_map<(m, n, k, o) -> (k, n)>, affine_map<(m, n, k, o) -> (m + o, n)>]}
    : (memref<32x256xf32>, memref<256x64xf32>, memref<32x64xf32>, index) -> ()
  "task.mma"(%a, %b, %c, %o) {atom = "fma", extents = [16, 64, 256], reductions = 1, warps = [1, 4, 1], step = 16, stages = 3, maps = [
    affine_map<(m, n, k, o) -> (m + o, k)>, affine_map<(m, n, k, o) -> (k, n)>, affine_map<(m, n, k, o) -> (m + o, n)>]}
    : (memref<32x256xf32>, memref<256x64xf32>, memref<32x64xf32>, index) -> ()
  return
}

// CHECK-LABEL: func.func @stream(
// CHECK: "task.stream"(%{{.*}}) ({
// CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %{{.*}}: f32):
// CHECK: }, {
// CHECK-NEXT: ^bb0(%{{.*}}: index, %{{.*}}: index, %{{.*}}: f32, %{{.*}}: f32):
// CHECK: }) {columns = [1], extents = [64, 32, 128, 32], maps = [#{{.*}}, #{{.*}}, #{{.*}}], scale = 1.250000e-01 : f64, seen = #{{.*}}}
func.func @stream(%q: memref<64x32xf16>, %k: memref<128x32xf16>, %v: memref<128x32xf16>, %o: memref<64x32xf32>) {
  "task.stream"(%q, %k, %v) ({
  ^bb0(%i: index, %e: index, %j: index, %s: f32):
    "task.yield"(%s) : (f32) -> ()
  }, {
  ^bb0(%i: index, %e: index, %sum: f32, %total: f32):
    %y = arith.divf %sum, %total : f32
    "task.store"(%y, %o, %i, %e) {map = affine_map<(i, e) -> (i, e)>} : (f32, memref<64x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [64, 32, 128, 32], columns = [1], scale = 0.125, seen = affine_map<(i, e, j, d) -> (i - j)>, maps = [
    affine_map<(i, e, j, d) -> (i, d)>, affine_map<(i, e, j, d) -> (j, d)>, affine_map<(i, e, j, d) -> (j, e)>]}
    : (memref<64x32xf16>, memref<128x32xf16>, memref<128x32xf16>) -> ()
  return
}

// CHECK-LABEL: func.func @buffers(
func.func @buffers() {
  // CHECK: "task.buffer"() {offset = 4096 : i64} : () -> memref<64xf32>
  %t = "task.buffer"() {offset = 4096} : () -> memref<64xf32>
  // CHECK: "task.weight"() {key = "fc.weight"} : () -> memref<10x4xf32>
  %w = "task.weight"() {key = "fc.weight"} : () -> memref<10x4xf32>
  // CHECK: "task.constant"() {value = dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>} : () -> memref<2xf32>
  %c = "task.constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> memref<2xf32>
  return
}

// CHECK-LABEL: func.func @set(
// CHECK: "task.set"(%{{.*}}) : (i64, memref<i64>) -> ()
func.func @set(%i: i64, %x: memref<i64>) {
  "task.set"(%i, %x) : (i64, memref<i64>) -> ()
  return
}

// CHECK-LABEL: func.func @slice(
// CHECK: "task.slice"(%{{.*}}) : (memref<8x4xf32>, index) -> memref<4xf32>
func.func @slice(%x: memref<8x4xf32>, %i: index) {
  %s = "task.slice"(%x, %i) : (memref<8x4xf32>, index) -> memref<4xf32>
  return
}

// CHECK-LABEL: func.func @view(
// CHECK: "task.view"(%{{.*}}) : (memref<2x3xf32>) -> memref<6xf32>
func.func @view(%x: memref<2x3xf32>) {
  %v = "task.view"(%x) : (memref<2x3xf32>) -> memref<6xf32>
  return
}

// CHECK-LABEL: func.func @launch_and_copy(
func.func @launch_and_copy(%x: memref<64xf32>, %y: memref<64xf32>) {
  // CHECK: "task.launch"(%{{.*}}) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
  "task.launch"(%x, %y) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
  // CHECK: "task.copy"(%{{.*}}) : (memref<64xf32>, memref<64xf32>) -> ()
  "task.copy"(%x, %y) : (memref<64xf32>, memref<64xf32>) -> ()
  return
}

// CHECK-LABEL: func.func @group
func.func @group(%x: memref<64xf32>, %y: memref<64xf32>, %z: memref<64xf32>) {
  // CHECK: "task.group"()
  // CHECK: {blocks = 4 : i64, scope = "cluster"}
  "task.group"() ({
    "task.launch"(%x, %y) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
    "task.launch"(%y, %z) {kernel = "relu"} : (memref<64xf32>, memref<64xf32>) -> ()
    "task.end"() : () -> ()
  }) {scope = "cluster", blocks = 4} : () -> ()
  return
}
