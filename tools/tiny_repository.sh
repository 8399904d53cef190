#!/bin/bash
# Puts the shipped model into a model repository: tools/tiny_repository.sh DIR
source "$(dirname "$0")/step.sh"
model=${1:?the repository folder}/tiny_fashion
mkdir -p "$model/1"
cp assets/tiny_fashion.onnx "$model/1/model.onnx"
cp assets/tiny_fashion_labels.txt "$model/labels.txt"
cat >"$model/config.pbtxt" <<TEXT
name: "tiny_fashion"
max_batch_size: 64
input [ { name: "image" data_type: TYPE_FP32 dims: [ 1, 28, 28 ] } ]
output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" } ]
TEXT
echo "$model: $(wc -c <"$model/1/model.onnx") bytes"
