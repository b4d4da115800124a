import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { z } from "zod";
import { type ApiWorld, bodyFor, pathIn, queryFor, startApiWorld } from "../../../support/api-app.ts";

/** As much of OpenAPI 3.1 as clients are made from, strictly: nothing else may be there. */
const Schema = z.union([z.boolean(), z.record(z.string(), z.unknown())]);
const Content = z.strictObject({ "application/json": z.strictObject({ schema: Schema }) });
const Operation = z.strictObject({
  summary: z.string().min(1),
  operationId: z.string().regex(/^[a-z][a-z0-9_]*$/),
  description: z.string().optional(),
  parameters: z.array(
    z.discriminatedUnion("in", [
      z.strictObject({ name: z.string(), in: z.literal("path"), required: z.literal(true), schema: Schema }),
      z.strictObject({ name: z.string(), in: z.literal("query"), required: z.boolean(), schema: Schema }),
    ]),
  ),
  requestBody: z.strictObject({ required: z.literal(true), content: Content }).optional(),
  responses: z.record(
    z.string().regex(/^([1-5]\d\d|default)$/),
    z.strictObject({ description: z.string(), content: Content }),
  ),
});
const METHODS = z.enum(["get", "post", "put", "patch", "delete"]);
const Document = z.strictObject({
  openapi: z.literal("3.1.0"),
  info: z.strictObject({
    title: z.string(),
    version: z.string(),
    description: z.string(),
    license: z.strictObject({ name: z.string() }),
  }),
  servers: z.array(z.strictObject({ url: z.string() })),
  security: z.array(z.record(z.string(), z.array(z.string()))),
  components: z.strictObject({
    securitySchemes: z.record(z.string(), z.strictObject({ type: z.literal("http"), scheme: z.literal("bearer") })),
    schemas: z.record(z.string(), Schema),
  }),
  paths: z.record(z.string().startsWith("/"), z.partialRecord(METHODS, Operation)),
});

let world: ApiWorld;
let document: z.infer<typeof Document>;
beforeAll(async () => {
  world = await startApiWorld();
  const { json } = await world.api.call("GET", "/openapi.json", { secret: null });
  document = Document.parse(json);
});
afterAll(() => world.api[Symbol.dispose]());

function operations() {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
}

test("has every endpoint, once", () => {
  const documented = operations().map(({ path, method }) => `${method} ${path}`);
  expect(documented.toSorted()).toEqual(world.api.endpoints.map((one) => `${one.method} ${one.path}`).toSorted());
  const ids = operations().map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
});

test("names each variable part of a path, and refers to what is there", () => {
  for (const { path, operation } of operations()) {
    const parts = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
    const named = operation.parameters.filter((one) => one.in === "path").map(({ name }) => name);
    expect([path, named]).toEqual([path, parts as string[]]);
  }
  for (const [, target] of JSON.stringify(document).matchAll(/"\$ref":"([^"]*)"/g)) {
    expect(target).toBe("#/components/schemas/Problem");
  }
  expect(Object.keys(document.components.schemas)).toEqual(["Problem"]);
});

test("tells the type of every parameter", () => {
  for (const { path, operation } of operations()) {
    for (const { name, schema } of operation.parameters) {
      expect([path, name, Object.keys(schema).length > 0]).toEqual([path, name, true]);
    }
  }
});

describe("what it describes", () => {
  test("answers: each operation, with what the document says of the result's fields", async () => {
    let checked = 0;
    // Deleting comes last, and the tunnel at the very end.
    const order = (one: { method: string; path: string }) =>
      one.method !== "DELETE" ? 0 : one.path.endsWith("/cfd_tunnel/{tunnel_id}") ? 2 : 1;
    for (const one of world.api.endpoints.toSorted((a, b) => order(a) - order(b))) {
      const body = bodyFor(world, one);
      const answer = await world.api.call(
        one.method,
        pathIn(world, one.path) + queryFor(one),
        body === undefined ? {} : { body },
      );
      expect([one.method, one.path, answer.status]).toEqual([one.method, one.path, 200]);
      const operation = document.paths[one.path]?.[one.method.toLowerCase() as z.infer<typeof METHODS>];
      const schema = operation?.responses["200"]?.content["application/json"].schema;
      const wrong = mismatch(schema, answer.json, "answer");
      expect([one.method, one.path, wrong]).toEqual([one.method, one.path, undefined]);
      expect(operation?.requestBody === undefined).toBe(body === undefined);
      checked += 1;
    }
    expect(checked).toBe(operations().length);
    const refused = await world.api.call("GET", "/accounts", { secret: null });
    expect(mismatch(document.components.schemas["Problem"], refused.json, "problem")).toBeUndefined();
  });
});

/** Where a value is not as a JSON schema says; undefined = nowhere. As much of JSON Schema as the document uses. */
function mismatch(schema: unknown, value: unknown, at: string): string | undefined {
  if (typeof schema !== "object" || schema === null) return undefined;
  const {
    type,
    properties,
    required,
    items,
    anyOf,
    oneOf,
    enum: listed,
    additionalProperties,
  } = schema as {
    readonly type?: string | readonly string[];
    readonly properties?: Readonly<Record<string, unknown>>;
    readonly required?: readonly string[];
    readonly items?: unknown;
    readonly anyOf?: readonly unknown[];
    readonly oneOf?: readonly unknown[];
    readonly enum?: readonly unknown[];
    readonly additionalProperties?: unknown;
  };
  const either = anyOf ?? oneOf;
  if (either !== undefined) {
    return either.some((one) => mismatch(one, value, at) === undefined) ? undefined : `${at}: none of several`;
  }
  if (listed !== undefined && !listed.includes(value)) return `${at}: not in the list`;
  if (type !== undefined && ![type].flat().some((one) => isOfType(one, value))) return `${at}: not ${type}`;
  if (Array.isArray(value)) {
    return value.map((each, i) => mismatch(items, each, `${at}.${i}`)).find((found) => found !== undefined);
  }
  if (typeof value !== "object" || value === null || properties === undefined) return undefined;
  const missing = required?.find((name) => !(name in value));
  if (missing !== undefined) return `${at}.${missing}: missing`;
  for (const [name, each] of Object.entries(value)) {
    if (!(name in properties) && additionalProperties === false) return `${at}.${name}: not described`;
    const found = mismatch(properties[name], each, `${at}.${name}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isOfType(type: string, value: unknown): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}
