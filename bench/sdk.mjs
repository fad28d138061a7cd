// The official TypeScript SDK as the other side of bench/pipe and bench/turn. It takes one JSON command a line and
// answers with one line: {"seconds", "count"} or {"rss"}.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Codex } from "@openai/codex-sdk";

const thread = ({ child, env, options }) =>
  new Codex({ codexPathOverride: child, env: { ...process.env, ...env } }).startThread({
    skipGitRepoCheck: true,
    ...options,
  });

const commands = {
  // A stream of events, read to its end.
  async stream(command) {
    const started = process.hrtime.bigint();
    const { events } = await thread(command).runStreamed("go");
    let count = 0;
    for await (const event of events) if (event.type) count += 1;
    return { seconds: Number(process.hrtime.bigint() - started) / 1e9, count };
  },
  // A whole turn.
  async turn(command) {
    const started = process.hrtime.bigint();
    const turn = await thread(command).run("go");
    return { seconds: Number(process.hrtime.bigint() - started) / 1e9, count: turn.items.length };
  },
  // Measures the memory of the process while the reader sleeps after the first event.
  async sleeper(command) {
    globalThis.gc?.();
    const before = process.memoryUsage.rss();
    const { events } = await thread(command).runStreamed("go");
    let most = 0;
    for await (const _ of events) {
      for (let left = command.seconds * 10; left > 0; left -= 1) {
        await sleep(100);
        most = Math.max(most, process.memoryUsage.rss());
      }
      break;
    }
    return { rss: most - before };
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
