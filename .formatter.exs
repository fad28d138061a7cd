[
  inputs: [
    "{mix,.formatter}.exs",
    "native/*.exs",
    "{lib,dev,test,bench,examples}/**/*.{ex,exs}"
  ]
]
