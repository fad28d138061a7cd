[
  inputs: [
    "{mix,.formatter,.credo}.exs",
    "native/*.exs",
    "{lib,dev,dev_tasks,test,bench,examples}/**/*.{ex,exs}"
  ]
]
