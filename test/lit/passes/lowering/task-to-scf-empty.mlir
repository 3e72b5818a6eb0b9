// Opaque code takes an argument without elements flat (other shapes with a 0 inside have no bare pointer) and sees it in its shape.
// RUN: %mlc-opt %s --target cpu --lower-task-to-scf | filecheck %s
// RUN: %mlc-opt %s --target cpu --pass-pipeline='builtin.module(lower-task-to-scf,expand-strided-metadata,lower-affine,convert-scf-to-cf,finalize-memref-to-llvm,convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},convert-arith-to-llvm,convert-cf-to-llvm,reconcile-unrealized-casts)' | filecheck %s --check-prefix LLVM

// CHECK: func.func @copy(%[[X:.*]]: memref<0xi8> {llvm.noalias}, %{{.*}}: memref<2x4xi8> {llvm.noalias}, %{{.*}}: index, %{{.*}}: index)
// CHECK: %[[SHAPED:.*]] = memref.reinterpret_cast %[[X]] to offset: [0], sizes: [2, 0, 4], strides: [0, 4, 1]
// CHECK: memref.load %[[SHAPED]]
// LLVM: llvm.func @copy(%{{.*}}: !llvm.ptr {llvm.noalias}, %{{.*}}: !llvm.ptr {llvm.noalias}, %{{.*}}: i64, %{{.*}}: i64)
"task.kernel"() ({
^bb0(%x: memref<2x0x4xi8>, %y: memref<2x4xi8>):
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  scf.for %i = %c0 to %c2 step %c1 {
    scf.for %j = %c0 to %c0 step %c1 {
      %v = memref.load %x[%i, %j, %i] : memref<2x0x4xi8>
      memref.store %v, %y[%i, %j] : memref<2x4xi8>
    }
  }
  "task.end"() : () -> ()
}) {grid = [], inputs = 1, sym_name = "copy"} : () -> ()
