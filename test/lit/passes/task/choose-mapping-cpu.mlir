// choose-mapping on CPUs: lanes of vectors as the workers of a map, register tiles of products; lower-task-to-scf does what stands there.
// RUN: %mlc-opt %s --target=cpu:x86-64-v4 --choose-mapping | filecheck %s
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --choose-mapping | filecheck %s --check-prefix=V3
// RUN: %mlc-opt %s --lower-task-to-scf | filecheck %s --check-prefix=PLAIN
// RUN: sed 's/extents = .37.}/extents = [37], map = #task.map<repeat(10, 1) * spatial(4, 1)>}/' %s | %mlc-opt --lower-task-to-scf | filecheck %s --check-prefix=FOUR

// A row of 37: two whole vectors of 16 lanes and one that ends with the row.
// CHECK: extents = [37], map = #task.map<repeat(3, 1) * spatial(16, 1)>
// CHECK: sym_name = "row"
// V3: extents = [37], map = #task.map<repeat(5, 1) * spatial(8, 1)>
// PLAIN-LABEL: func.func @row(
// PLAIN-NOT: vector
// PLAIN-LABEL: func.func @row_sum(
// FOUR: vector.load %{{.*}} : memref<148xf32>, vector<4xf32>
"task.kernel"() ({
^bb0(%x: memref<4x37xf32>, %y: memref<4x37xf32>, %b: index):
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%x, %b, %i) {map = affine_map<(d0, d1) -> (d0, d1)>} : (memref<4x37xf32>, index, index) -> f32
    %r = arith.negf %v : f32
    "task.store"(%r, %y, %b, %i) {map = affine_map<(d0, d1) -> (d0, d1)>} : (f32, memref<4x37xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [37]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "row", grid = [4], inputs = 1} : () -> ()

// Rows that lie along the reduction: its lanes share one point's sum.
// CHECK: extents = [16], map = #task.map<repeat(16, 7) * spatial(1, 16)>
// CHECK: sym_name = "row_sum"
"task.kernel"() ({
^bb0(%x: memref<16x100xf32>, %y: memref<16xf32>):
  "task.foreach"() ({
  ^bb1(%i: index):
    %zero = arith.constant 0.0 : f32
    %s = "task.reduce"(%zero) ({
    ^bb2(%k: index, %acc: f32):
      %v = "task.load"(%x, %i, %k) {map = affine_map<(d0, d1) -> (d0, d1)>} : (memref<16x100xf32>, index, index) -> f32
      %n = arith.addf %acc, %v : f32
      "task.yield"(%n) : (f32) -> ()
    }) {extents = [100], combine = ["addf"]} : (f32) -> f32
    "task.store"(%s, %y, %i) {map = affine_map<(d0) -> (d0)>} : (f32, memref<16xf32>, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [16]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "row_sum", grid = [], inputs = 1} : () -> ()

// A deep product: a tile of 13 x 2 vectors of sums (6 x 2 with 16 registers of 8 lanes), and pieces of 512 of the 1024 reduction points.
// CHECK: "task.mma"
// CHECK-SAME: registers = [13, 2, 16], step = 512 : i64
// CHECK: sym_name = "deep"
// V3: registers = [6, 2, 8], step = 512 : i64
"task.kernel"() ({
^bb0(%a: memref<64x1024xf32>, %b: memref<1024x32xf32>, %c: memref<64x32xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [64, 32, 1024], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<64x1024xf32>, memref<1024x32xf32>, memref<64x32xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "deep", grid = [], inputs = 2} : () -> ()

// Two rows by columns that are not contiguous: dot products along the reduction, so the product becomes a foreach.
// CHECK-NOT: "task.mma"
// CHECK: "task.reduce"
// CHECK: extents = [2, 32], map = #task.map<repeat(64, 4) * spatial(1, 16)>
// CHECK: sym_name = "dots"
"task.kernel"() ({
^bb0(%a: memref<2x64xf32>, %b: memref<32x64xf32>, %c: memref<2x32xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [2, 32, 64], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<2x64xf32>, memref<32x64xf32>, memref<2x32xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "dots", grid = [], inputs = 2} : () -> ()

// What follows a product is done on its tiles: the foreach reads each sum at its own point, and a bias per column. A buffer in between is no
// hindrance, nor a dimension of extent 1. Not if sums are read elsewhere, too, or at other points, or if the reduction is cut.
// CHECK: "task.mma"(%arg0, %arg1, %[[SUMS:.*]]) {
// CHECK-SAME: finish = true
// CHECK: sym_name = "finished"
"task.kernel"() ({
^bb0(%a: memref<12x64xf32>, %b: memref<64x32xf32>, %v: memref<32xf32>, %y: memref<1x12x32xf32>):
  %c = "task.alloc"() {level = "shared"} : () -> memref<1x12x32xf32>
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [1, 12, 32, 64], reductions = 1, maps = [
    affine_map<(z, m, n, k) -> (m, k)>, affine_map<(z, m, n, k) -> (k, n)>, affine_map<(z, m, n, k) -> (z, m, n)>]}
    : (memref<12x64xf32>, memref<64x32xf32>, memref<1x12x32xf32>) -> ()
  "task.foreach"() ({
  ^bb1(%z: index, %m: index, %n: index):
    %s = "task.load"(%c, %m, %n) {map = affine_map<(m, n) -> (0, m, n)>} : (memref<1x12x32xf32>, index, index) -> f32
    %w = "task.load"(%v, %n) {map = affine_map<(n) -> (n)>} : (memref<32xf32>, index) -> f32
    %r = arith.addf %s, %w : f32
    "task.store"(%r, %y, %m, %n) {map = affine_map<(m, n) -> (0, m, n)>} : (f32, memref<1x12x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [1, 12, 32]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "finished", grid = [], inputs = 3} : () -> ()

// CHECK: "task.mma"(%arg0, %arg1, %{{.*}}) {
// CHECK-NOT: finish
// CHECK: sym_name = "turned"
"task.kernel"() ({
^bb0(%a: memref<32x64xf32>, %b: memref<64x32xf32>, %y: memref<32x32xf32>):
  %c = "task.alloc"() {level = "shared"} : () -> memref<32x32xf32>
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [32, 32, 64], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<32x64xf32>, memref<64x32xf32>, memref<32x32xf32>) -> ()
  "task.foreach"() ({
  ^bb1(%m: index, %n: index):
    %s = "task.load"(%c, %n, %m) {map = affine_map<(n, m) -> (n, m)>} : (memref<32x32xf32>, index, index) -> f32
    "task.store"(%s, %y, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (f32, memref<32x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [32, 32]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "turned", grid = [], inputs = 2} : () -> ()

// CHECK: "task.mma"(%arg0, %arg1, %{{.*}}) {
// CHECK-NOT: finish
// CHECK: sym_name = "read_twice"
"task.kernel"() ({
^bb0(%a: memref<32x64xf32>, %b: memref<64x32xf32>, %y: memref<32x32xf32>, %x: memref<32x32xf32>):
  %c = "task.alloc"() {level = "shared"} : () -> memref<32x32xf32>
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [32, 32, 64], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<32x64xf32>, memref<64x32xf32>, memref<32x32xf32>) -> ()
  "task.foreach"() ({
  ^bb1(%m: index, %n: index):
    %s = "task.load"(%c, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (memref<32x32xf32>, index, index) -> f32
    "task.store"(%s, %y, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (f32, memref<32x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [32, 32]} : () -> ()
  "task.foreach"() ({
  ^bb1(%m: index, %n: index):
    %s = "task.load"(%c, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (memref<32x32xf32>, index, index) -> f32
    "task.store"(%s, %x, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (f32, memref<32x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [32, 32]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "read_twice", grid = [], inputs = 2} : () -> ()
