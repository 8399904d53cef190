# What a person types. Everything below is a short call of a script in tools/ that says what it does.
SHELL := /bin/bash
PRESET ?= release
.DEFAULT_GOAL := help
.PHONY: help run test build bench report format lint tidy asan fuzz clean

help:
	@printf '%s\n' \
	  'Dunlin: CPU inference, engine and server.' '' \
	  '  make run      install what is missing, build, fetch sample models, start the server' \
	  '                  PORT=9000    HTTP, gRPC and metrics on 9000, 9001, 9002 (default 8000…)' \
	  '                  SECONDS=10   stop by itself after that time' \
	  '  make test     install what is missing, build, run every test' '' \
	  '  make build    the Release binary at build/release/dunlin' \
	  '  make bench    compare with ONNX Runtime: table of ratios (MODELS="resnet50 minilm" to choose)' \
	  '  make report   measure every model against ONNX Runtime, write docs/performance.md' \
	  '  make format   lay out the sources with clang-format' \
	  '  make lint     format, layers, sizes, headers' \
	  '  make tidy     clang-tidy over all sources (slow)' \
	  '  make asan     unit tests under AddressSanitizer and UndefinedBehaviorSanitizer' \
	  '  make fuzz     fuzz the model importer (SECONDS=60)' \
	  '  make clean    remove build/'

run:
	@tools/run.sh $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PORT),--port $(PORT))

test:
	@tools/test.sh

build:
	@tools/setup.sh build
	@tools/build.sh $(PRESET) dunlin

bench:
	@tools/setup.sh build run bench
	@tools/build.sh release dunlin bench_worker
	@tools/fetch_ort.sh
	@/usr/bin/python3 bench/compare.py $(MODELS)

report:
	@tools/setup.sh build run bench
	@tools/build.sh release dunlin bench_worker
	@tools/fetch_ort.sh
	@build/release/dunlin models fetch --all --dir build/models
	@/usr/bin/python3 bench/report.py

format:
	@tools/setup.sh lint
	@tools/lint.sh format

lint:
	@tools/setup.sh build lint
	@tools/lint.sh all

tidy:
	@tools/setup.sh build lint
	@tools/lint.sh tidy

asan:
	@tools/setup.sh build test
	@tools/asan.sh

fuzz:
	@tools/setup.sh build fuzz
	@tools/build.sh fuzz fuzz_onnx
	@tests/fuzz/run.sh $(if $(SECONDS),$(SECONDS),60)

clean:
	rm -rf build
