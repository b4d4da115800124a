import { z } from "zod";
import { VERSION } from "../../core/version.ts";
import type { AnyEndpoint } from "./endpoint.ts";

/** Where it is served, under the API's own prefix. */
export const OPENAPI_PATH = "/openapi.json";

/** The OpenAPI 3.1 document of the API, made of what its endpoints check. */
export function openApiDocument(endpoints: readonly AnyEndpoint[], prefix: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const one of endpoints) {
    const methods = paths[one.path] ?? {};
    methods[one.method.toLowerCase()] = operation(one);
    paths[one.path] = methods;
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Culvert edge",
      version: VERSION,
      description: "The management API of a Culvert edge, in the shape of Cloudflare's API v4.",
      license: { name: "Apache-2.0" },
    },
    servers: [{ url: prefix }],
    security: [{ token: [] }],
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: { Problem: schemaOf(PROBLEM, "output") },
    },
    paths,
  };
}

const Message = z.object({ code: z.number(), message: z.string() });
const PROBLEM = z.object({
  success: z.literal(false),
  errors: z.array(Message),
  messages: z.array(Message),
  result: z.null(),
});

function operation(one: AnyEndpoint): Record<string, unknown> {
  const query = schemaOf(one.query, "input") as { properties?: Record<string, unknown>; required?: string[] };
  const inPath = [...one.path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const inQuery = Object.entries(query.properties ?? {}).map(([name, schema]) => ({
    name,
    in: "query",
    required: query.required?.includes(name) ?? false,
    schema,
  }));
  const envelope = z.object({
    success: z.literal(true),
    errors: z.array(Message),
    messages: z.array(Message),
    result: one.result,
    result_info: z
      .object({
        count: z.number(),
        page: z.number(),
        per_page: z.number(),
        total_count: z.number(),
        total_pages: z.number(),
      })
      .optional(),
  });
  return {
    summary: one.summary,
    operationId: operationId(one),
    ...(one.scope === undefined ? {} : { description: `Needs the scope \`${one.scope}\`.` }),
    parameters: [...inPath, ...inQuery],
    ...(one.body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: schemaOf(one.body, "input") } } } }),
    responses: {
      200: { description: "Done", content: { "application/json": { schema: schemaOf(envelope, "output") } } },
      default: {
        description: "Refused",
        content: { "application/json": { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    },
  };
}

/** Such as `get_accounts_cfd_tunnel_tunnel_id`. */
function operationId({ method, path }: AnyEndpoint): string {
  return `${method.toLowerCase()}${path
    .replace("/{account_id}", "")
    .replace("/{zone_id}", "")
    .replace(/[/{}]+/g, "_")
    .replace(/_$/, "")}`;
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}
