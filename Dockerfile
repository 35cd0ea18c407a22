# docker build -t fcn . && docker run --name fcn fcn && docker cp -L fcn:/fcn/metrics out
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
WORKDIR /fcn
COPY . .
RUN git rev-parse --git-dir >/dev/null 2>&1 || git init --quiet
RUN make check
CMD ["make", "repro"]
