// An MCP server that does no more than it must: over stdio, or over HTTP at the port of the
// argument. `echo` answers with its text, `big` with `size` bytes; `flood` reports progress `n`
// times, or logs `n` messages, of `size` bytes each.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

const text = (text) => ({ content: [{ type: "text", text }] });

const answers = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {}, logging: {} },
    serverInfo: { name: "bench", version: "1" },
  }),
  "tools/list": () => ({ tools: [{ name: "echo", inputSchema: { type: "object" } }] }),
  "tools/call": ({ name, arguments: args }) =>
    text(name === "big" ? "y".repeat(args.size) : (args.text ?? "")),
  ping: () => ({}),
};

const rpc = (message) => JSON.stringify({ jsonrpc: "2.0", ...message });

const answer = ({ id, method, params }) =>
  answers[method]
    ? rpc({ id, result: answers[method](params ?? {}) })
    : rpc({ id, error: { code: -32601, message: "method not found" } });

const write = (line) =>
  new Promise((resolve) => {
    if (process.stdout.write(line + "\n")) resolve();
    else process.stdout.once("drain", resolve);
  });

const flood = async ({ id, params }) => {
  const { n, size, logs } = params.arguments;
  const data = "z".repeat(size);
  const token = params._meta?.progressToken;
  if (logs) await write(rpc({ id, result: text("soon") }));
  for (let progress = 1; progress <= n; progress += 1) {
    const params = { progressToken: token, progress, message: data };
    await write(
      logs
        ? rpc({ method: "notifications/message", params: { level: "info", data } })
        : rpc({ method: "notifications/progress", params }),
    );
  }
  await write(logs ? rpc({ method: "notifications/last" }) : rpc({ id, result: text("done") }));
};

if (process.argv[2]) {
  createServer((request, response) => {
    if (request.method !== "POST") return response.writeHead(405).end();
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const message = JSON.parse(Buffer.concat(chunks));
      if (message.id === undefined) return response.writeHead(202).end();
      response.writeHead(200, { "content-type": "application/json" }).end(answer(message));
    });
  }).listen(Number(process.argv[2]), "127.0.0.1");
} else {
  createInterface({ input: process.stdin }).on("line", (line) => {
    const message = JSON.parse(line);
    if (message.id === undefined || !message.method) return;
    if (message.params?.name === "flood") flood(message);
    else process.stdout.write(answer(message) + "\n");
  });
}
