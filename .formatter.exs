[
  inputs: [
    "{mix,.formatter}.exs",
    "native/*.exs",
    "{lib,dev,dev_tasks,test,bench,examples}/**/*.{ex,exs}"
  ]
]
