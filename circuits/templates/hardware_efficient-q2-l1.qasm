// SPDX-License-Identifier: Apache-2.0
OPENQASM 3.0;
include "stdgates.inc";
input float[64] weight_000;
input float[64] weight_001;
input float[64] weight_002;
input float[64] weight_003;
input float[64] weight_004;
qubit[2] q;
rz(weight_000) q[0];
rz(weight_001) q[1];
rx(weight_002) q[0];
rx(weight_003) q[1];
s q[1];
cx q[0], q[1];
ry((-0.5)*weight_004) q[1];
cx q[0], q[1];
ry(0.5*weight_004) q[1];
sdg q[1];
