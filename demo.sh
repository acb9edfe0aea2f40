#!/bin/sh
# The whole chain on the photographs that ship with the package: compress, export, upscale, bench.
set -eu
BIN=${BIN:-.venv/bin}
RUN="--workdir demo_out"
drc() { echo; echo "+ drc-deploy $*"; "$BIN/drc-deploy" "$@"; }

drc compress --model drn_xs --ratio 0.3 --search-steps 60 --finetune-steps 500 --learning-rate 5e-4 $RUN
drc export drn_xs $RUN
drc export drn_xs_r30 --trt fp16 $RUN
drc upscale drc_deploy/samples/chelsea.png --engine demo_out/drn_xs_r30.onnx -o demo_out/chelsea_x4.png --overwrite
drc bench $RUN
echo
echo "Look at demo_out/chelsea_x4.png and demo_out/bench/report.html"
