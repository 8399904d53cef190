#!/usr/bin/env node
// Runs one model in ONNX Runtime: the peer in parity tests and benchmarks.
//   ort_worker.mjs MODEL --threads N --input NAME=FILE.npy… [--output-dir DIR] [--optimisation all|disabled]
//   ort_worker.mjs --jobs FILE [--optimisation all|disabled]
// With --output-dir: runs once, writes DIR/<index>.npy and prints {"outputs": [names]}.
// Otherwise prints "ready MILLISECONDS" of loading and answers each line N on its input with the milliseconds of N runs, on one line.
// With --jobs: each line of FILE is {"model":…, "inputs": {name: npy file}, "outputDir":…}; prints a line {"outputs": [names]} or
// {"error":…} for each.
// bench/bench_worker.cc speaks the same protocol. ORT_MODULES names the folder that holds node_modules.
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(path.resolve(process.env.ORT_MODULES ?? 'build/npm') + '/');
const ort = require('onnxruntime-node');

// ONNX Runtime's element type, its array type, NumPy's name.
const TYPES = [
  ['float32', Float32Array, '<f4'], ['float64', Float64Array, '<f8'], ['float16', Uint16Array, '<f2'],
  ['int8', Int8Array, '|i1'], ['uint8', Uint8Array, '|u1'], ['int16', Int16Array, '<i2'],
  ['uint16', Uint16Array, '<u2'], ['int32', Int32Array, '<i4'], ['uint32', Uint32Array, '<u4'],
  ['int64', BigInt64Array, '<i8'], ['uint64', BigUint64Array, '<u8'], ['bool', Uint8Array, '|b1'],
];

function readNpy(file) {
  const bytes = fs.readFileSync(file);
  const long = bytes[6] > 1;
  const start = (long ? 12 : 10) + (long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const header = bytes.toString('latin1', 10, start);
  const descr = /'descr': '([^']+)'/.exec(header)[1];
  const dims = /'shape': \(([^)]*)\)/.exec(header)[1].split(',').filter((d) => d.trim()).map(Number);
  const [type, Array_] = TYPES.find((t) => t[2] === descr);
  if (header.includes("'fortran_order': True")) throw new Error(`${file}: column-major arrays are not read`);
  const data = new Uint8Array(bytes.subarray(start));  // a copy, so that it is aligned
  return new ort.Tensor(type, new Array_(data.buffer, 0, data.length / Array_.BYTES_PER_ELEMENT), dims);
}

function writeNpy(file, tensor) {
  const descr = TYPES.find((t) => t[0] === tensor.type)[2];
  const shape = tensor.dims.length === 1 ? `${tensor.dims[0]},` : tensor.dims.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`;
  const header = Buffer.from(text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + '\n', 'latin1');
  const magic = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length & 255, header.length >> 8]);
  const { buffer, byteOffset, byteLength } = tensor.data;
  fs.writeFileSync(file, Buffer.concat([magic, header, Buffer.from(buffer, byteOffset, byteLength)]));
}

function parseArguments(words) {
  const options = { inputs: {}, threads: 1, optimisation: 'all' };
  for (let i = 0; i < words.length; i++) {
    if (words[i] === '--threads') options.threads = Number(words[++i]);
    else if (words[i] === '--optimisation') options.optimisation = words[++i];
    else if (words[i] === '--jobs') options.jobs = words[++i];
    else if (words[i] === '--output-dir') options.outputDir = words[++i];
    else if (words[i] === '--input') {
      const split = words[++i].lastIndexOf('=');
      options.inputs[words[i].slice(0, split)] = words[i].slice(split + 1);
    } else options.model = words[i];
  }
  return options;
}

const options = parseArguments(process.argv.slice(2));

function open(model) {
  return ort.InferenceSession.create(model, {
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: options.optimisation,
    logSeverityLevel: 3,
  });
}

function readInputs(inputs) {
  return Object.fromEntries(Object.entries(inputs).map(([name, file]) => [name, readNpy(file)]));
}

async function answer(session, inputs, folder) {
  const outputs = await session.run(readInputs(inputs));
  fs.mkdirSync(folder, { recursive: true });
  session.outputNames.forEach((name, i) => writeNpy(path.join(folder, `${i}.npy`), outputs[name]));
  return { outputs: session.outputNames };
}

if (options.jobs) {
  for (const line of fs.readFileSync(options.jobs, 'utf8').split('\n').filter(Boolean)) {
    const job = JSON.parse(line);
    try {
      const session = await open(job.model);
      console.log(JSON.stringify(await answer(session, job.inputs, job.outputDir)));
      await session.release();
    } catch (error) {
      console.log(JSON.stringify({ error: String(error.message).slice(0, 400) }));
    }
  }
  process.exit(0);
}

const begin = performance.now();
const session = await open(options.model);
const loaded = performance.now() - begin;
if (options.outputDir) {
  console.log(JSON.stringify(await answer(session, options.inputs, options.outputDir)));
  process.exit(0);
}

const feeds = readInputs(options.inputs);
console.log(`ready ${loaded.toFixed(3)}`);
for await (const line of readline.createInterface({ input: process.stdin })) {
  const times = [];
  for (let i = 0; i < Number(line); i++) {
    const start = performance.now();
    await session.run(feeds);
    times.push((performance.now() - start).toFixed(4));
  }
  console.log(times.join(' '));
}
process.exit(0);
