#!/usr/bin/env python3
"""An MCP server over stdio that misbehaves in the ways of its arguments."""
import json, os, subprocess, sys, threading, time

ways = sys.argv[1:]
lock = threading.Lock()
version = next((w[8:] for w in ways if w.startswith("version=")), None)
modern = "modern" in ways
calls = {}
answers = {}
next_id = [1000]

TOOLS = [
    {"name": "echo", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "write", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": False}},
    {"name": "boom", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "invalid", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
] + [{"name": n, "inputSchema": {"type": "object"}} for n in
     ["slow", "big", "progress", "ask", "seen", "exit", "change", "flood", "batch"]]


def out(o):
    line = json.dumps(o)
    with lock:
        if "noise" in ways:
            sys.stdout.write("this is no JSON\n\n[1]\n{}\n")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def result(i, r):
    out({"jsonrpc": "2.0", "id": i, "result": r})


def error(i, code, message, data=None):
    e = {"code": code, "message": message}
    if data is not None:
        e["data"] = data
    out({"jsonrpc": "2.0", "id": i, "error": e})


def notify(method, params=None):
    out({"jsonrpc": "2.0", "method": method, "params": params or {}})


def text(i, t):
    result(i, {"resultType": "complete", "content": [{"type": "text", "text": t}], "extra": {"kept": True}})


def ask(method, params):
    next_id[0] += 1
    i = next_id[0]
    answers[i] = threading.Event()
    out({"jsonrpc": "2.0", "id": i, "method": method, "params": params})
    answers[i].wait(20)
    return answers[i].message


def call(i, p):
    name, a = p["name"], p.get("arguments", {})
    with lock:
        calls[name] = calls.get(name, 0) + 1
    if name == "echo":
        text(i, a.get("text", ""))
    elif name in ("boom", "write"):
        error(i, -32001, "busy")
    elif name == "invalid":
        error(i, -32602, "invalid")
    elif name == "seen":
        text(i, json.dumps(calls))
    elif name == "slow":
        time.sleep(a.get("s", 1))
        text(i, "slept")
    elif name == "big":
        text(i, "y" * a.get("n", 10))
    elif name == "exit":
        sys.stderr.write("out of cheese\n")
        sys.stderr.flush()
        os._exit(3)
    elif name == "batch":
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "first"}}
        out([note, {"jsonrpc": "2.0", "id": i, "result": {"content": [{"type": "text", "text": "in a batch"}]}}])
    elif name == "change":
        TOOLS.append({"name": "added", "inputSchema": {}})
        notify("notifications/tools/list_changed")
        text(i, "changed")
    elif name == "flood":
        text(i, "soon")
        for n in range(a.get("n", 1000)):
            notify("notifications/message", {"level": "info", "data": "z" * a.get("size", 1000)})
    elif name == "progress":
        for n in range(a.get("n", 5)):
            notify("notifications/progress", {"progressToken": p["_meta"]["progressToken"], "progress": n})
            time.sleep(a.get("s", 0.1))
        text(i, "done")
    elif name == "ask":
        wanted = {"elicitation": ("elicitation/create", {"message": "who?", "requestedSchema": {
            "type": "object", "properties": {"name": {"type": "string", "default": "Ann"}}}}),
            "roots": ("roots/list", {}),
            "sampling": ("sampling/createMessage", {"messages": [], "maxTokens": 1})}[a["kind"]]
        if modern:
            if "inputResponses" in p:
                text(i, json.dumps([p["inputResponses"], p.get("requestState")]))
            else:
                result(i, {"resultType": "input_required", "requestState": "s1",
                           "inputRequests": {"k": {"method": wanted[0], "params": wanted[1]}}})
        else:
            m = ask(*wanted)
            text(i, json.dumps(m.get("result", m.get("error"))))
    else:
        error(i, -32602, "no such tool")


def handle(m):
    i, method, p = m.get("id"), m.get("method"), m.get("params", {})
    if method is None:
        e = answers.get(i)
        if e:
            e.message = m
            e.set()
        return
    if method == "notifications/cancelled":
        sys.stderr.write("cancelled %s\n" % p["requestId"])
        sys.stderr.flush()
    if i is None:
        return
    if modern and method != "server/discover" and "io.modelcontextprotocol/protocolVersion" not in p.get("_meta", {}):
        return error(i, -32602, "no _meta")
    if method == "server/discover":
        if modern:
            result(i, {"resultType": "complete", "supportedVersions": ["2026-07-28"],
                       "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "public"})
        elif "silent" not in ways:
            error(i, -32601, "method not found")
        if "strict" in ways:
            os._exit(1)
    elif method == "initialize" and not modern:
        if "early" in ways:
            notify("notifications/tools/list_changed")
        result(i, {"protocolVersion": version or p["protocolVersion"], "capabilities": {"tools": {"listChanged": True}},
                   "serverInfo": {"name": "odd", "version": "1"}, "instructions": "be kind"})
    elif method == "tools/list":
        calls["list"] = calls.get("list", 0) + 1
        if "endless" in ways:
            return result(i, {"tools": [], "nextCursor": ""})
        at = int(p.get("cursor", 0))
        page = {"resultType": "complete", "tools": TOOLS[at:at + 5], "ttlMs": 60000}
        if at + 5 < len(TOOLS):
            page["nextCursor"] = str(at + 5)
        result(i, page)
    elif method == "tools/call":
        threading.Thread(target=call, args=(i, p), daemon=True).start()
    elif method == "ping":
        result(i, {})
    else:
        error(i, -32601, "method not found")


if "child" in ways:
    subprocess.Popen(["sleep", "1000"])
if "deaf" in ways:
    time.sleep(1000)
while True:
    line = sys.stdin.readline()
    if not line:
        if "ignores_eof" in ways:
            time.sleep(1000)
        break
    try:
        handle(json.loads(line))
    except ValueError:
        pass
