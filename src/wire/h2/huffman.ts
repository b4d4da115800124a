/**
 * The Huffman code of HPACK (RFC 7541 appendix B). The code is canonical (codes of one length rise with the symbol,
 * and lengths rise with the code), so the lengths alone define it.
 */
// biome-ignore format: a table of 16 a row
const CODE_LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
] as const;

const END_OF_STRING = 256;
const NO_SYMBOL = -1;
const INVALID_STATE = -1;

/**
 * A state machine that eats four bits a step. The shortest code has five bits, so a step yields one symbol at most.
 * `next`: state after the nibble; `symbol`: the byte it completed; `accepting`: the bits since the last symbol are a
 * legal padding, that is fewer than eight bits and all ones (RFC 7541 section 5.2).
 */
interface Machine {
  readonly next: Int16Array;
  readonly symbol: Int16Array;
  readonly accepting: Uint8Array;
}

let machine: Machine | undefined;

/**
 * Decodes `source[start, end)` and appends it to `target` from offset 0. Returns the number of bytes written, or -1
 * for a code that is not valid. `target` must hold `2 × (end - start)` bytes.
 */
export function decodeHuffman(source: Uint8Array, start: number, end: number, target: Uint8Array): number {
  machine ??= buildMachine();
  const { next, symbol, accepting } = machine;
  let state = 0;
  let written = 0;
  for (let i = start; i < end; i++) {
    const byte = source[i] as number;
    let step = (state << 4) | (byte >> 4);
    if ((symbol[step] as number) !== NO_SYMBOL) target[written++] = symbol[step] as number;
    state = next[step] as number;
    if (state === INVALID_STATE) return -1;
    step = (state << 4) | (byte & 15);
    if ((symbol[step] as number) !== NO_SYMBOL) target[written++] = symbol[step] as number;
    state = next[step] as number;
    if (state === INVALID_STATE) return -1;
  }
  return accepting[state] === 1 ? written : -1;
}

function buildMachine(): Machine {
  const tree = buildTree();
  const states = tree.length;
  const next = new Int16Array(states * 16);
  const symbol = new Int16Array(states * 16).fill(NO_SYMBOL);
  for (let state = 0; state < states; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      const step = (state << 4) | nibble;
      let node = state;
      for (let bit = 3; bit >= 0 && node !== INVALID_STATE; bit--) {
        const child = (tree[node] as Node)[(nibble >> bit) & 1] as Child;
        if (child.kind === "node") node = child.index;
        else if (child.symbol === END_OF_STRING) node = INVALID_STATE;
        else {
          symbol[step] = child.symbol;
          node = 0;
        }
      }
      next[step] = node;
    }
  }
  return { next, symbol, accepting: findAccepting(tree) };
}

type Child = { readonly kind: "node"; readonly index: number } | { readonly kind: "leaf"; readonly symbol: number };
type Node = [Child | undefined, Child | undefined];

function buildTree(): Node[] {
  const tree: Node[] = [[undefined, undefined]];
  let code = 0;
  let codeLength = 0;
  const order = CODE_LENGTHS.map((length, symbol) => ({ length, symbol }));
  order.sort((a, b) => a.length - b.length || a.symbol - b.symbol);
  for (const { length, symbol } of order) {
    code = codeLength === 0 ? 0 : (code + 1) * 2 ** (length - codeLength);
    codeLength = length;
    let node = 0;
    for (let bit = length - 1; bit >= 0; bit--) {
      const side = Math.floor(code / 2 ** bit) % 2;
      const parent = tree[node] as Node;
      if (bit === 0) parent[side] = { kind: "leaf", symbol };
      else {
        let child = parent[side];
        if (child === undefined) {
          tree.push([undefined, undefined]);
          child = { kind: "node", index: tree.length - 1 };
          parent[side] = child;
        }
        if (child.kind === "node") node = child.index;
      }
    }
  }
  return tree;
}

function findAccepting(tree: readonly Node[]): Uint8Array {
  const accepting = new Uint8Array(tree.length);
  let node = 0;
  for (let ones = 0; ones < 8; ones++) {
    accepting[node] = 1;
    const child = (tree[node] as Node)[1];
    if (child?.kind !== "node") break;
    node = child.index;
  }
  return accepting;
}
