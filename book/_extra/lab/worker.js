/* Samples in a worker, so that the page stays alive: members through ONNX Runtime on one thread,
   the sampler's arithmetic as in abc_lib/method/diffusion.py. */
"use strict";

const here = new URL(".", self.location).href;
let entry = null, sessions = [], graph = null, weights = null, newest = 0;

/** Half precision to single. */
function single(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

async function bytes(name) {
  const answer = await fetch(`${here}${entry.folder}/${name}`);
  if (!answer.ok) throw new Error(`${name} is missing`);
  const data = await answer.arrayBuffer();
  // Browsers have it for https and for this machine.
  const digest = self.crypto.subtle && await crypto.subtle.digest("SHA-256", data);
  const words = digest && [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
  if (data.byteLength !== entry.files[name].size || (words && words !== entry.files[name].sha256)) {
    throw new Error(`${name} is not the file that was written`);
  }
  return data;
}

async function load(which, turn) {
  importScripts(`${here}ort/ort.wasm.min.js`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = `${here}ort/`;
  entry = which;
  const [model, members] = await Promise.all(["graph.onnx", "members.safetensors"].map(bytes));
  graph = new Uint8Array(model);
  const length = Number(new DataView(members).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(members, 8, length)));
  weights = { header, data: members, start: 8 + length };
  const count = entry.words[0].length;
  for (let i = 0; i < count; i++) {
    sessions.push(await session(i));
    postMessage({ turn, step: i + 1, of: count });
  }
}

/** The session of one member: the graph of all, and the member's parameters beside it. */
async function session(member) {
  const total = entry.parameters.reduce((sum, [, size]) => sum + size, 0);
  const values = new Float32Array(total);
  let at = 0;
  for (const [name, size] of entry.parameters) {
    const part = weights.header[`${String(member).padStart(2, "0")}.${name}`];
    if (!part) throw new Error(`members.safetensors lacks ${name}`);
    const [from, to] = part.data_offsets;
    const raw = weights.data.slice(weights.start + from, weights.start + to);
    values.set(part.dtype === "F16" ? Float32Array.from(new Uint16Array(raw), single) : new Float32Array(raw), at);
    at += size;
  }
  return ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"], externalData: [{ path: "member", data: new Uint8Array(values.buffer) }],
  });
}

/** The library's generator: torch's Mersenne Twister, 24 bits a number, Box and Muller by sixteens. */
function normal(seed, count) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let at = 624;
  const uniform = () => {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return (y & 0xffffff) / 16777216;
  };
  const drawn = Float32Array.from({ length: count }, uniform);
  const pair = (start) => {
    for (let i = start; i < start + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - drawn[i])), angle = 2 * Math.PI * drawn[i + 8];
      drawn[i] = radius * Math.cos(angle);
      drawn[i + 8] = radius * Math.sin(angle);
    }
  };
  for (let start = 0; start + 16 <= count; start += 16) pair(start);
  if (count % 16) {
    for (let i = count - 16; i < count; i++) drawn[i] = uniform();
    pair(count - 16);
  }
  return drawn;
}

/** Lets messages in; a turn that a later one overtook ends here. */
async function breathe(turn) {
  await new Promise((resolve) => { const { port1, port2 } = new MessageChannel(); port1.onmessage = resolve; port2.postMessage(0); });
  if (turn < newest) throw new Error("overtaken");
}

/** Trajectories from one seed under rows of weights; the states of the first `kept` at each step. */
async function sample(seed, rows, kept, turn, report) {
  const m = entry.shape.reduce((a, b) => a * b), B = rows.length, n = sessions.length;
  const all = normal(seed, entry.rows * m);
  let x = new Float32Array(B * m);
  for (let b = 0; b < B; b++) x.set(all.subarray(0, m), b * m);
  const states = [x.slice(0, kept * m)];
  for (let k = 0; k < entry.steps.length; k++) {
    await breathe(turn);
    const step = entry.steps[k], eps = new Float32Array(B * m);
    for (let i = 0; i < n; i++) {
      const who = rows.flatMap((c, b) => (c[i] ? [b] : []));
      if (!who.length) continue;
      const batch = new Float32Array(who.length * m);
      who.forEach((b, place) => batch.set(x.subarray(b * m, (b + 1) * m), place * m));
      const feeds = {
        x: new ort.Tensor("float32", batch, [who.length, ...entry.shape]),
        t: new ort.Tensor("int64", new BigInt64Array(who.length).fill(BigInt(step.t)), [who.length]),
      };
      const out = (await sessions[i].run(feeds)).eps.data;
      who.forEach((b, place) => {
        const share = Math.fround(rows[b][i] / n);
        for (let p = 0; p < m; p++) eps[b * m + p] += out[place * m + p] * share;
      });
    }
    const next = new Float32Array(B * m), clip = entry.clip;
    for (let b = 0; b < B; b++) {
      for (let p = 0; p < m; p++) {
        const q = b * m + p;
        let x0 = (x[q] - step.from_eps * eps[q]) / step.from_x;
        if (clip !== null) x0 = Math.min(clip, Math.max(-clip, x0));
        let value = step.to_x0 * x0 + step.to_x * x[q] + step.to_eps * eps[q];
        if (step.to_noise) value += step.to_noise * all[(k + 1) * m + p];
        next[q] = value;
      }
    }
    x = next;
    states.push(x.slice(0, kept * m));
    if (report) postMessage({ turn, step: k + 1, of: entry.steps.length });
  }
  const image = (state) => state.map((v) => Math.min(1, Math.max(0, v / entry.factor + entry.shift)));
  return { states: states.map(image), last: image(x) };
}

let queue = Promise.resolve();
onmessage = ({ data }) => {
  newest = data.turn;
  queue = queue.then(async () => {
    try {
      if (data.load) {
        await load(data.load, data.turn);
        postMessage({ turn: data.turn, loaded: true });
      } else {
        const start = performance.now();
        const made = await sample(data.seed, data.rows, data.kept, data.turn, data.report);
        postMessage({ turn: data.turn, made, took: performance.now() - start });
      }
    } catch (error) {
      postMessage({ turn: data.turn, failed: String(error.message || error) });
    }
  });
};
