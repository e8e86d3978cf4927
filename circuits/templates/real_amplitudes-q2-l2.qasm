// SPDX-License-Identifier: Apache-2.0
OPENQASM 3.0;
include "stdgates.inc";
input float[64] weight_000;
input float[64] weight_001;
input float[64] weight_002;
input float[64] weight_003;
input float[64] weight_004;
input float[64] weight_005;
qubit[2] q;
ry(weight_000) q[0];
ry(weight_001) q[1];
cx q[0], q[1];
ry(weight_002) q[0];
ry(weight_003) q[1];
cx q[0], q[1];
ry(weight_004) q[0];
ry(weight_005) q[1];
