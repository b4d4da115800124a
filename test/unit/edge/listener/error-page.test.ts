import { expect, test } from "bun:test";
import { BAD_GATEWAY, NO_CONNECTOR, renderError, statusError } from "../../../../src/edge/listener/error-page.ts";
import { headerValue, type RawHeaders } from "../../../../src/wire/headers.ts";

const RAY = "0123456789abcdef-AMS";

function render(headers: RawHeaders, error = NO_CONNECTOR): { type: string | undefined; text: string } {
  const page = renderError(error, headers, RAY);
  expect(headerValue(page.headers, "content-length")).toBe(String(page.body.length));
  expect(headerValue(page.headers, "cf-ray")).toBe(RAY);
  expect(headerValue(page.headers, "cache-control")).toBe("no-store");
  return { type: headerValue(page.headers, "content-type"), text: new TextDecoder().decode(page.body) };
}

test.each([
  { accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", type: "text/html; charset=utf-8" },
  { accept: "application/json", type: "application/json" },
  { accept: "Application/JSON, text/plain, */*", type: "application/json" },
  { accept: "*/*", type: "text/plain; charset=utf-8" },
  { accept: undefined, type: "text/plain; charset=utf-8" },
])("Accept: $accept gets $type", ({ accept, type }) => {
  expect(render(accept === undefined ? [] : ["Accept", accept]).type).toBe(type);
});

test("every form says what happened and which request it was", () => {
  for (const accept of ["text/html", "application/json", "*/*"]) {
    const { text } = render(["Accept", accept]);
    for (const part of ["1033", NO_CONNECTOR.title, NO_CONNECTOR.advice, RAY]) expect(text).toContain(part);
  }
});

test("JSON has the shape of Cloudflare's API", () => {
  expect(JSON.parse(render(["accept", "application/json"], BAD_GATEWAY).text)).toEqual({
    success: false,
    errors: [{ code: 502, message: `${BAD_GATEWAY.title}: ${BAD_GATEWAY.advice}` }],
    ray: RAY,
  });
});

test.each([400, 408, 413, 414, 417, 431, 501, 503, 505, 508])("status %i has words of its own", (status) => {
  expect(statusError(status)).toMatchObject({ status, code: status });
  expect(statusError(status).title).not.toBe(statusError(599).title);
});
