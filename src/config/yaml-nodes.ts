import { type Document, isAlias, isMap, isScalar, isSeq, type Node, Scalar, visit } from "yaml";
import { FLAG_KEYS, TEXT_KEYS, TEXT_LIST_KEYS } from "../ingress/keys.ts";

/** Merges of merges that are followed. */
const MAX_MERGES = 20;

/** True and false as YAML 1.1 knew them; what cloudflared reads settings with still does. */
const OLD_BOOLEANS: ReadonlyMap<unknown, boolean> = new Map([
  ...["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"].map((text) => [text, true] as const),
  ...["n", "N", "no", "No", "NO", "off", "Off", "OFF"].map((text) => [text, false] as const),
]);

/**
 * Gives scalars of rules and settings the type of their key, as reading into typed fields does: `httpHostHeader: 80` is
 * a text and `noTLSVerify: yes` is true. Flags at the top level have no such leniency, in cloudflared neither (surface:
 * section 9.2).
 */
export function typeScalars(document: Document): void {
  visit(document, {
    Pair(_, { key, value }, path) {
      // Document and top map.
      if (path.length <= 2) return;
      const name = isScalar(key) ? String(key.value) : "";
      if (TEXT_KEYS.has(name)) makeText(value);
      else if (TEXT_LIST_KEYS.has(name) && isSeq(value)) for (const item of value.items) makeText(item);
      else if (FLAG_KEYS.has(name) && isScalar(value)) value.value = OLD_BOOLEANS.get(value.value) ?? value.value;
    },
  });
}

function makeText(node: unknown): void {
  if (!(node instanceof Scalar) || node.type !== "PLAIN" || node.source === undefined) return;
  if (typeof node.value === "number" || typeof node.value === "boolean") node.value = node.source;
}

export interface NodeEntry {
  /** Where it begins: its key in a map, itself in a list. */
  readonly offset: number | undefined;
  readonly value: unknown;
}

/** One entry of a map or list, through aliases and merges. */
export function entryOf(document: Document, parent: unknown, key: string | number, merges = 0): NodeEntry | undefined {
  const node = isAlias(parent) ? parent.resolve(document) : parent;
  if (isSeq(node) && typeof key === "number") {
    const item = node.items[key];
    return item === undefined ? undefined : { offset: startOf(item), value: item };
  }
  if (!isMap(node) || merges > MAX_MERGES) return undefined;
  const pair = node.items.find((item) => nameOf(item.key) === key);
  if (pair !== undefined) return { offset: startOf(pair.key), value: pair.value };
  for (const item of node.items) {
    if (nameOf(item.key) !== "<<") continue;
    for (const source of isSeq(item.value) ? item.value.items : [item.value]) {
      const entry = entryOf(document, source, key, merges + 1);
      if (entry !== undefined) return entry;
    }
  }
  return undefined;
}

/** Where the first merge stands. */
export function firstMerge(document: Document): number | undefined {
  let offset: number | undefined;
  visit(document, {
    Pair(_, { key }) {
      if (nameOf(key) !== "<<") return undefined;
      offset = startOf(key);
      return visit.BREAK;
    },
  });
  return offset;
}

/** A key as a property has it. */
function nameOf(key: unknown): string {
  const value = isScalar(key) ? key.value : key;
  return typeof value === "symbol" ? (value.description ?? "") : value === null ? "" : String(value);
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null)?.range?.[0];
}
