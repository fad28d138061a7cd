// The official TypeScript client of MCP as the other side of bench/mcp. It takes one JSON command a
// line and answers with one line.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const clients = {};
const now = () => Number(process.hrtime.bigint()) / 1e3;

const commands = {
  async connect({ name, argv, url }) {
    const client = new Client({ name: "bench", version: "1" });
    const [command, ...args] = argv ?? [];
    await client.connect(
      url
        ? new StreamableHTTPClientTransport(new URL(url))
        : new StdioClientTransport({ command, args, stderr: "ignore" }),
    );
    clients[name] = client;
    return {};
  },
  // `n` calls of `echo`, by `callers` at once. Times are microseconds.
  async calls({ name, n, callers, tool, args }) {
    const client = clients[name];
    const times = [];
    const began = now();
    const caller = async () => {
      for (let left = n / callers; left > 0; left -= 1) {
        const sent = now();
        const result = await client.callTool({ name: tool, arguments: args });
        if (result.isError) throw new Error("the tool failed");
        times.push(now() - sent);
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));
    const seconds = (now() - began) / 1e6;
    times.sort((a, b) => a - b);
    const at = (q) => times[Math.floor(q * (times.length - 1))];
    return { rate: n / seconds, p50: at(0.5), p99: at(0.99) };
  },
  // The growth of the process while `n` results of `size` bytes come, and none is kept.
  async results({ name, n, size, pause }) {
    globalThis.gc?.();
    const before = process.memoryUsage.rss();
    let most = 0;
    for (let left = n; left > 0; left -= 1) {
      await clients[name].callTool({ name: "big", arguments: { size } });
      await sleep(pause);
      most = Math.max(most, process.memoryUsage.rss());
    }
    return { rss: most - before };
  },
  async close({ name }) {
    await clients[name].close();
    delete clients[name];
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command.do](command);
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
