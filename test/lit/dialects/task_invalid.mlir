// task: every rule of the ops, broken once; the message names the op and the rule.
// RUN: %mlc-opt %s --verify-diagnostics

// expected-error@below {{'task.kernel' op takes memrefs, then 2 block indices, got ['memref<64xf32>', 'index']}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "too_few_indices", grid = [4, 2], inputs = 1} : () -> ()

// expected-error@below {{'task.kernel' op takes memrefs, then 1 block indices, got ['index', 'memref<64xf32>']}}
"task.kernel"() ({
^bb0(%b: index, %x: memref<64xf32>):
  "task.end"() : () -> ()
}) {sym_name = "index_first", grid = [4], inputs = 1} : () -> ()

// expected-error@below {{'task.kernel' op needs a positive grid, got [0]}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "no_blocks", grid = [0], inputs = 1} : () -> ()

// expected-error@below {{'task.kernel' op declares 2 inputs of 1 buffers}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "too_many_inputs", grid = [4], inputs = 2} : () -> ()

// expected-error@below {{'task.kernel' op is split 3 times, expected a divisor of its 256 threads, and no other cluster}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "odd_split", grid = [4], inputs = 1, threads = 256, split = 3} : () -> ()

// expected-error@below {{'task.kernel' op needs a positive number of threads, got 0}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "no_threads", grid = [4], inputs = 1, threads = 0} : () -> ()

"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  // expected-error@below {{'task.foreach' op map spatial(64, 1) needs 64 threads, the kernel has 32}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [64], map = #task.map<spatial(64, 1)>} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "too_few_threads", grid = [4], inputs = 1, threads = 32} : () -> ()

"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  // expected-error@below {{'task.barrier' op has scope 'grid', expected 'block' or 'cluster' here}}
  "task.barrier"() {scope = "grid"} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "barrier_inside", grid = [4], inputs = 1} : () -> ()

func.func @barrier_of_a_block() {
  // expected-error@below {{'task.barrier' op has scope 'block', expected 'grid' here}}
  "task.barrier"() {scope = "block"} : () -> ()
  return
}

func.func @mapping(%x: memref<64xf32>, %zero: f32) {
  // expected-error@below {{'task.foreach' op attribute 'map': task map 'spatial(64, 1) + repeat(4, 1)', position 16: unexpected '+'}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [64], map = #task.map<spatial(64, 1) + repeat(4, 1)>} : () -> ()
  // expected-error@below {{'task.foreach' op attribute 'map' must be TaskMap, got 64}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [64], map = 64} : () -> ()
  // expected-error@below {{'task.foreach' op map spatial(64) covers [64], expected at least [64, 1]: points, reduction points}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [64], map = #task.map<spatial(64)>} : () -> ()
  // expected-error@below {{'task.foreach' op map spatial(32, 1) covers [32, 1], expected at least [64, 1]: points, reduction points}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [64], map = #task.map<spatial(32, 1)>} : () -> ()
  // expected-error@below {{'task.foreach' op map spatial(1, 32) covers [1, 32], expected at least [1, 64]: points, reduction points}}
  "task.foreach"() ({
  ^bb0(%i: index):
    %s = "task.reduce"(%zero) ({
    ^bb0(%k: index, %acc: f32):
      %v = "task.load"(%x, %k) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
      %n = arith.addf %acc, %v : f32
      "task.yield"(%n) : (f32) -> ()
    }) {extents = [64], combine = ["addf"]} : (f32) -> f32
    "task.yield"() : () -> ()
  }) {extents = [1], map = #task.map<spatial(1, 32)>} : () -> ()
  // expected-error@below {{'task.foreach' op map spatial(1, 64) shares a reduction among threads that must run in order}}
  "task.foreach"() ({
  ^bb0(%i: index):
    %s = "task.reduce"(%zero) ({
    ^bb0(%k: index, %acc: f32):
      %v = "task.load"(%x, %k) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
      %n = arith.subf %v, %acc : f32
      "task.yield"(%n) : (f32) -> ()
    }) {extents = [64], combine = [""]} : (f32) -> f32
    "task.yield"() : () -> ()
  }) {extents = [1], map = #task.map<spatial(1, 64)>} : () -> ()
  return
}

func.func @inside(%x: memref<64xf32>, %y: memref<32xf32>, %a: memref<16x8xf32>) {
  // expected-error@below {{'task.alloc' op level must be shared or register, got 'global'}}
  %0 = "task.alloc"() {level = "global"} : () -> memref<16xf32>
  // expected-error@below {{'task.alloc' op has a pitch or offset at level 'register', expected them at level 'shared'}}
  %2 = "task.alloc"() {level = "register", offset = 0} : () -> memref<16xf32>
  // expected-error@below {{'task.alloc' op has pitch 15, expected at least the row's length in memref<2x16xf32>}}
  %3 = "task.alloc"() {level = "shared", pitch = 15} : () -> memref<2x16xf32>
  // expected-error@below {{'task.alloc' op has offset -4, expected bytes from the start of the block's memory}}
  %4 = "task.alloc"() {level = "shared", offset = -4} : () -> memref<16xf32>
  // expected-error@below {{'task.foreach' op body takes 2 indices, got 1}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [16, 64]} : () -> ()
  // expected-error@below {{'task.mma' op has 3 reductions of 2 dimensions and 3 maps}}
  "task.mma"(%a, %a, %a) {atom = "fma", extents = [16, 8], reductions = 3, maps = [
    affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.mma' op has 1 reductions of 2 dimensions and 2 maps}}
  "task.mma"(%a, %a, %a) {atom = "fma", extents = [16, 8], reductions = 1, maps = [
    affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.mma' op has warps [2, 2], expected three positive counts: rows, columns, depth}}
  "task.mma"(%a, %a, %a) {atom = "fma", extents = [16, 8], reductions = 1, warps = [2, 2], maps = [
    affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.stream' op has columns [2] of 2 point dimensions}}
  "task.stream"(%a, %a, %a) ({
  ^bb0(%i: index, %e: index, %j: index, %s: f32):
    "task.yield"(%s) : (f32) -> ()
  }, {
  ^bb0(%i: index, %e: index, %sum: f32, %total: f32):
    "task.yield"() : () -> ()
  }) {extents = [16, 8, 16, 8], columns = [2], seen = affine_map<(i, e, j, d) -> ()>, maps = [
    affine_map<(i, e, j, d) -> (i, d)>, affine_map<(i, e, j, d) -> (j, d)>, affine_map<(i, e, j, d) -> (j, e)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.mma' op has stages = 0, expected at least 1}}
  "task.mma"(%a, %a, %a) {atom = "fma", extents = [16, 8], reductions = 1, step = 8, stages = 0, maps = [
    affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.copy' op takes sources, then as many targets of equal types, got ['memref<64xf32>', 'memref<32xf32>']}}
  "task.copy"(%x, %y) : (memref<64xf32>, memref<32xf32>) -> ()
  // expected-error@below {{'task.copy' op takes sources, then as many targets of equal types, got ['memref<64xf32>']}}
  "task.copy"(%x) : (memref<64xf32>) -> ()
  // expected-error@below {{'task.group' op has 4 blocks in scope 'block'}}
  "task.group"() ({ "task.end"() : () -> () }) {scope = "block", blocks = 4} : () -> ()
  // expected-error@below {{'task.group' op has scope 'grid', expected block or cluster}}
  "task.group"() ({ "task.end"() : () -> () }) {scope = "grid", blocks = 4} : () -> ()
  // expected-error@below {{'task.load' op needs attribute 'map' (Attribute)}}
  %1 = "task.load"(%x) : (memref<64xf32>) -> f32
  // expected-error@below {{'task.launch' op needs attribute 'kernel' (str)}}
  "task.launch"(%x, %y) : (memref<64xf32>, memref<32xf32>) -> ()
  return
}
