import { expect, test } from "bun:test";
import { nearest } from "../../../src/core/nearest.ts";

const KEYS = ["service", "hostname", "path", "originRequest"];

test.each([
  { word: "servce", want: "service" },
  { word: "sevrice", want: "service" },
  { word: "SERVICE", want: "service" },
  { word: "hostnames", want: "hostname" },
  { word: "originrequest", want: "originRequest" },
  { word: "pth", want: "path" },
  { word: "completely-else", want: undefined },
  { word: "x", want: undefined },
  { word: "", want: undefined },
])("nearest($word) is $want", ({ word, want }) => {
  expect(nearest(word, KEYS)).toBe(want);
});
