import { expect, test } from "bun:test";
import { HOST } from "../support/lab.ts";
import { describeConnectors } from "../support/lab-suite.ts";
import { closeOf, type LabWebSocket, OPCODE } from "../support/lab-websocket.ts";
import { pollUntil } from "../support/poll-until.ts";
import { openWebSocket, visit } from "../support/visitors.ts";

const MEBIBYTE = 1024 * 1024;

describeConnectors("WebSocket through the tunnel", (_kind, lab) => {
  const open = (target = "/ws"): Promise<LabWebSocket> => openWebSocket(lab().port, { host: HOST, target });

  test("text and binary come back as they went", async () => {
    await using ws = await open();
    await ws.sendText("grüße");
    expect(await ws.receive()).toEqual({ final: true, opcode: OPCODE.text, payload: Buffer.from("grüße") });
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
    await ws.send(OPCODE.binary, bytes);
    expect(await ws.receive()).toEqual({ final: true, opcode: OPCODE.binary, payload: bytes });
  });

  test("an empty message, a ping and fragments pass untouched", async () => {
    await using ws = await open();
    await ws.sendText("");
    expect(await ws.receive()).toEqual({ final: true, opcode: OPCODE.text, payload: Buffer.alloc(0) });
    await ws.send(OPCODE.ping, Buffer.from("p"));
    expect(await ws.receive()).toEqual({ final: true, opcode: OPCODE.pong, payload: Buffer.from("p") });
    await ws.send(OPCODE.text, Buffer.from("one"), false);
    await ws.send(OPCODE.continuation, Buffer.from("two"));
    expect(await ws.receive()).toEqual({ final: false, opcode: OPCODE.text, payload: Buffer.from("one") });
    expect(await ws.receive()).toEqual({ final: true, opcode: OPCODE.continuation, payload: Buffer.from("two") });
  });

  test("frames of 1 MiB pass whole", async () => {
    await using ws = await open();
    for (let round = 0; round < 4; round += 1) {
      const payload = Buffer.alloc(MEBIBYTE, `${round}-mebibyte-`);
      await ws.send(OPCODE.binary, payload);
      const echo = await ws.receive();
      expect(echo?.payload.length).toBe(MEBIBYTE);
      expect(echo?.payload.equals(payload)).toBe(true);
    }
  });

  test.each([
    { code: 1000, reason: "" },
    { code: 1001, reason: "going" },
    { code: 4321, reason: "mine" },
  ])("the origin sees the visitor's close code $code", async ({ code, reason }) => {
    const target = `/ws?close=${code}`;
    await using ws = await open(target);
    await ws.sendClose(code, reason);
    expect(closeOf(await ws.receive())).toEqual({ code, reason });
    expect(await ws.receive()).toBeUndefined();
    await pollUntil(() => lab().origin.seenAt(target)?.closeCode === code, { what: "the origin has the close code" });
  });

  test("the visitor sees the origin's close code", async () => {
    await using ws = await open();
    await ws.sendText("close 4999 enough");
    expect(closeOf(await ws.receive())).toEqual({ code: 4999, reason: "enough" });
  });

  test("100 sockets at once keep their own messages", async () => {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        await using ws = await open();
        await ws.sendText(`socket ${index}`);
        expect((await ws.receive())?.payload.toString()).toBe(`socket ${index}`);
      }),
    );
  });

  test("an origin that does not upgrade is heard", async () => {
    await expect(open("/hello")).rejects.toThrow(/HTTP\/1\.1 200/);
  });

  test("a visitor that goes away takes the origin's socket with it", async () => {
    const target = "/ws?gone";
    const ws = await open(target);
    await ws.sendText("here");
    await ws.receive();
    ws.socket.reset();
    await pollUntil(() => lab().origin.seenAt(target)?.outcome !== "open", { what: "the origin's socket ends" });
    expect((await visit(lab().port, { host: HOST, target: "/hello" })).status).toBe(200);
  });
});
