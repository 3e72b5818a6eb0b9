// choose-mapping and lower-task-to-scf: blocks are a range of one function, lanes are vectors; 16 lanes with 512-bit registers, 8 with 256.
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v4 --choose-mapping --lower-task-to-scf --mlc-cse --canonicalize | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v3 --choose-mapping --lower-task-to-scf --mlc-cse --canonicalize | filecheck %s --check-prefix=V3

// Lanes run along the dimension that is contiguous in memory; the last vector starts early enough to end with the row.
// CHECK-LABEL: func.func @lanes(
// CHECK-SAME: %[[X:.*]]: memref<148xf32> {llvm.noalias}, %[[Y:.*]]: memref<148xf32> {llvm.noalias}, %[[FIRST:.*]]: index, %[[LAST:.*]]: index)
// CHECK: %[[AT:.*]] = arith.constant 21 : index
// CHECK: scf.for %[[B:.*]] = %[[FIRST]] to %[[LAST]]
// CHECK: scf.for %[[I:.*]] = %c0 to %c32 step %c16 {
// CHECK: vector.load %[[X]][%{{.*}}] : memref<148xf32>, vector<16xf32>
// CHECK: vector.store %{{.*}}, %[[Y]][%{{.*}}]
// CHECK: %[[TAIL:.*]] = arith.addi %{{.*}}, %[[AT]]
// CHECK: vector.load %[[X]][%[[TAIL]]] : memref<148xf32>, vector<16xf32>
// CHECK: vector.store %{{.*}}, %[[Y]][%[[TAIL]]]
// V3-LABEL: func.func @lanes(
// V3: scf.for %{{.*}} = %c0 to %c32 step %c8
// V3: vector<8xf32>
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
}) {sym_name = "lanes", grid = [4], inputs = 1} : () -> ()

// -----

// Dimensions that every access walks contiguously are one loop.
// CHECK-LABEL: func.func @merged(
// CHECK: scf.for %{{.*}} = %c0 to %c48 step %c16
// CHECK-NOT: scf.for
// CHECK: return
"task.kernel"() ({
^bb0(%x: memref<2x3x8xf32>, %y: memref<2x3x8xf32>):
  "task.foreach"() ({
  ^bb1(%h: index, %i: index, %j: index):
    %v = "task.load"(%x, %h, %i, %j) {map = affine_map<(d0, d1, d2) -> (d0, d1, d2)>} : (memref<2x3x8xf32>, index, index, index) -> f32
    %r = arith.negf %v : f32
    "task.store"(%r, %y, %h, %i, %j) {map = affine_map<(d0, d1, d2) -> (d0, d1, d2)>} : (f32, memref<2x3x8xf32>, index, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [2, 3, 8]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "merged", grid = [], inputs = 1} : () -> ()

// -----

// Rows lie along the lanes of the reduction: 4 independent accumulators of 16 lanes, joined at the end, then the rest one by one.
// CHECK-LABEL: func.func @row_sum(
// CHECK-COUNT-4: vector.load %{{.*}} : memref<1600xf32>, vector<16xf32>
// CHECK-NOT: vector.load
// CHECK: vector.reduction <add>, %{{.*}} : vector<16xf32> into f32
// CHECK: scf.for %{{.*}} = %c64 to %c100 step %c1 iter_args
// CHECK: memref.load
// CHECK: memref.store
// V3-LABEL: func.func @row_sum(
// V3: scf.for %{{.*}} = %c0 to %c96 step %c32 iter_args
// V3: vector.reduction <add>, %{{.*}} : vector<8xf32> into f32
// V3: scf.for %{{.*}} = %c96 to %c100 step %c1 iter_args
"task.kernel"() ({
^bb0(%x: memref<16x100xf32>, %y: memref<16xf32>, %b: index):
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
}) {sym_name = "row_sum", grid = [4], inputs = 1} : () -> ()

// -----

// A column sum keeps its lanes on the columns: no value crosses lanes.
// CHECK-LABEL: func.func @column_sum(
// CHECK: scf.for %{{.*}} = %c0 to %c100 step %c1 iter_args(%{{.*}} = %{{.*}}) -> (vector<16xf32>)
// CHECK: vector.load
// CHECK-NOT: vector.reduction
// CHECK: vector.store
"task.kernel"() ({
^bb0(%x: memref<100x16xf32>, %y: memref<16xf32>):
  "task.foreach"() ({
  ^bb1(%i: index):
    %zero = arith.constant 0.0 : f32
    %s = "task.reduce"(%zero) ({
    ^bb2(%k: index, %acc: f32):
      %v = "task.load"(%x, %i, %k) {map = affine_map<(d0, d1) -> (d1, d0)>} : (memref<100x16xf32>, index, index) -> f32
      %n = arith.addf %acc, %v : f32
      "task.yield"(%n) : (f32) -> ()
    }) {extents = [100], combine = ["addf"]} : (f32) -> f32
    "task.store"(%s, %y, %i) {map = affine_map<(d0) -> (d0)>} : (f32, memref<16xf32>, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [16]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "column_sum", grid = [], inputs = 1} : () -> ()

// -----

// Loads that stride across lanes are gathers; stores stay contiguous.
// CHECK-LABEL: func.func @transpose(
// CHECK: %[[STEP:.*]] = vector.step : vector<16xindex>
// CHECK: %[[AT:.*]] = arith.muli %[[STEP]], %{{.*}} : vector<16xindex>
// CHECK: vector.gather %{{.*}} [%[[AT]]]
// CHECK: vector.store
"task.kernel"() ({
^bb0(%x: memref<16x32xf32>, %y: memref<32x16xf32>):
  "task.foreach"() ({
  ^bb1(%i: index, %j: index):
    %v = "task.load"(%x, %i, %j) {map = affine_map<(d0, d1) -> (d1, d0)>} : (memref<16x32xf32>, index, index) -> f32
    "task.store"(%v, %y, %i, %j) {map = affine_map<(d0, d1) -> (d0, d1)>} : (f32, memref<32x16xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [32, 16]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "transpose", grid = [], inputs = 1} : () -> ()

// -----

// Data-dependent rows: the index is read once per lane vector of the row.
// CHECK-LABEL: func.func @lookup(
// CHECK: %[[R:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK-NOT: vector.gather
// CHECK: vector.load %{{.*}} : memref<320xf32>, vector<16xf32>
// CHECK: vector.store
"task.kernel"() ({
^bb0(%x: memref<10x32xf32>, %i: memref<4xi64>, %y: memref<4x32xf32>):
  "task.foreach"() ({
  ^bb1(%r: index, %c: index):
    %n = "task.load"(%i, %r) {map = affine_map<(d0) -> (d0)>} : (memref<4xi64>, index) -> i64
    %row = arith.index_cast %n : i64 to index
    %v = memref.load %x[%row, %c] : memref<10x32xf32>
    "task.store"(%v, %y, %r, %c) {map = affine_map<(d0, d1) -> (d0, d1)>} : (f32, memref<4x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [4, 32]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "lookup", grid = [], inputs = 2} : () -> ()

// -----

// 6 rows x 2 vectors of accumulators in registers through the reduction: per step 2 loads, 6 broadcasts, 12 multiply-adds.
// CHECK-LABEL: func.func @mma(
// CHECK: %[[ACC:.*]]:12 = scf.for %{{.*}} = %c0 to %c8 step %c1
// CHECK-COUNT-2: vector.load %arg1
// CHECK-COUNT-6: vector.broadcast
// CHECK-NOT: vector.broadcast
// CHECK: scf.yield
// CHECK-COUNT-12: vector.store
// CHECK-NOT: vector.store
// CHECK: return
// V3-LABEL: func.func @mma(
// V3: vector.fma %{{.*}} : vector<8xf32>
"task.kernel"() ({
^bb0(%a: memref<6x8xf32>, %b: memref<8x32xf32>, %c: memref<6x32xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [6, 32, 8], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<6x8xf32>, memref<8x32xf32>, memref<6x32xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "mma", grid = [], inputs = 2} : () -> ()

// -----

// Columns that are not contiguous are copied to rows of contiguous ones first.
// CHECK-LABEL: func.func @packed(
// CHECK: %[[P:.*]] = memref.alloca() {alignment = 64 : i64} : memref<256xf32>
// CHECK: memref.store %{{.*}}, %[[P]]
// CHECK: :12 = scf.for
// CHECK: vector.load %[[P]][%{{.*}}] : memref<256xf32>, vector<16xf32>
// CHECK: vector.fma
"task.kernel"() ({
^bb0(%a: memref<6x8xf32>, %b: memref<32x8xf32>, %c: memref<6x32xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [6, 32, 8], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<6x8xf32>, memref<32x8xf32>, memref<6x32xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "packed", grid = [], inputs = 2} : () -> ()

// -----

// A factor in panels of 32 columns, in one group of 40: the second panel begins at column 8. Each step asks for the row 8 steps ahead, and,
// of the panel that comes next, for a third of a row: 30 rows make three tiles.
// CHECK-LABEL: func.func @panels(
// CHECK: scf.for %[[FIRST:.*]] = %c0 to %c40 step %c32
// CHECK: arith.minsi %[[FIRST]], %c8 : index
// CHECK: scf.for %{{.*}} = %c0 to %c30 step %c10
// CHECK: scf.for %{{.*}} = %c0 to %c64 step %c1 iter_args
// CHECK-COUNT-2: memref.prefetch %arg1[%{{.*}}], read, locality<3>, data
// CHECK: memref.prefetch %arg1[%{{.*}}], read, locality<2>, data
// CHECK-NOT: memref.prefetch
// CHECK-COUNT-20: vector.fma
// CHECK-NOT: vector.fma
// CHECK: return
"task.kernel"() ({
^bb0(%a: memref<30x64xf32>, %b: memref<2x64x32xf32>, %c: memref<30x40xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [30, 40, 64], reductions = 1, panels = [0, 32], maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<30x64xf32>, memref<2x64x32xf32>, memref<30x40xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "panels", grid = [], inputs = 2} : () -> ()

// -----

// The foreach behind a product doubles the sums of each register tile, which have no buffer.
// CHECK-LABEL: func.func @finished(
// CHECK-NOT: memref.alloca
// CHECK: scf.for {{.*}} iter_args
// CHECK-COUNT-24: vector.fma
// CHECK-COUNT-24: arith.addf %[[S:.*]], %[[S]]
// CHECK-NOT: vector.load
// CHECK: return
"task.kernel"() ({
^bb0(%a: memref<12x64xf32>, %b: memref<64x32xf32>, %y: memref<12x32xf32>):
  %c = "task.alloc"() {level = "shared"} : () -> memref<12x32xf32>
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [12, 32, 64], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<12x64xf32>, memref<64x32xf32>, memref<12x32xf32>) -> ()
  "task.foreach"() ({
  ^bb1(%m: index, %n: index):
    %s = "task.load"(%c, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (memref<12x32xf32>, index, index) -> f32
    %r = arith.addf %s, %s : f32
    "task.store"(%r, %y, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (f32, memref<12x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [12, 32]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "finished", grid = [], inputs = 2} : () -> ()

// -----

// A place that is a constant and the lanes' index, whichever comes first, is one load of a vector.
// CHECK-LABEL: func.func @places(
// CHECK-NOT: vector.gather
// CHECK-COUNT-2: vector.load
// CHECK-NOT: vector.gather
// CHECK: return
"task.kernel"() ({
^bb0(%x: memref<4x40xf32>, %y: memref<4x32xf32>):
  "task.foreach"() ({
  ^bb1(%i: index, %j: index):
    %four = arith.constant 4 : index
    %left = arith.addi %four, %j : index
    %wide = arith.index_cast %left : index to i64
    %narrow = arith.index_cast %wide : i64 to index
    %right = arith.addi %j, %four : index
    %v = memref.load %x[%i, %narrow] : memref<4x40xf32>
    %w = memref.load %x[%i, %right] : memref<4x40xf32>
    %r = arith.mulf %v, %w : f32
    "task.store"(%r, %y, %i, %j) {map = affine_map<(i, j) -> (i, j)>} : (f32, memref<4x32xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [4, 32]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "places", grid = [], inputs = 1} : () -> ()
