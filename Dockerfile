# Serves. To fine-tune in it as well: docker build --build-arg SENTENCE_JEPA_SKIP_TENSORFLOW= .
ARG NODE=22
ARG SENTENCE_JEPA_SKIP_TENSORFLOW=1

FROM node:${NODE}-bookworm AS build
ARG SENTENCE_JEPA_SKIP_TENSORFLOW
ENV SENTENCE_JEPA_CACHE=/cache
WORKDIR /app
# Of the packages with install scripts the server needs two compiled; setup sees to TensorFlow.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts && npm rebuild better-sqlite3 hnswlib-node
COPY . .
RUN npm run build
# The kernels choose at start by what the processor has: the image is for others than the one that makes it.
RUN mkdir -p /cache /data /models && \
    npm prune --omit=dev --ignore-scripts && \
    if [ -n "$SENTENCE_JEPA_SKIP_TENSORFLOW" ]; then npm uninstall --no-save --omit=dev --ignore-scripts @tensorflow/tfjs-node; fi && \
    node dist/cli/main.js setup
# Each new volume for the cache begins with the default encoder unpacked.
RUN node dist/cli/main.js model info default
# What ONNX Runtime brings for other platforms and for browsers, and what better-sqlite3 was compiled from.
RUN find node_modules/onnxruntime-node/bin -mindepth 3 -maxdepth 3 -not -path "*/linux/$(node -p process.arch)" -exec rm -r {} + && \
    rm -rf node_modules/onnxruntime-web/dist node_modules/better-sqlite3*/deps node_modules/better-sqlite3*/src

FROM node:${NODE}-bookworm-slim
ARG SENTENCE_JEPA_SKIP_TENSORFLOW
ENV NODE_ENV=production \
    SENTENCE_JEPA_HOST=0.0.0.0 \
    SENTENCE_JEPA_PORT=3000 \
    SENTENCE_JEPA_DATA_DIR=/data \
    SENTENCE_JEPA_CACHE=/cache \
    SENTENCE_JEPA_SKIP_TENSORFLOW=${SENTENCE_JEPA_SKIP_TENSORFLOW}
WORKDIR /app
COPY --from=build --chown=1000:1000 /data /data
COPY --from=build --chown=1000:1000 /cache /cache
# For a volume with models that several servers share (--model-store).
COPY --from=build --chown=1000:1000 /models /models
COPY --from=build /app/package.json /app/openapi.yaml /app/LICENSE ./
COPY --from=build /app/examples examples
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/models models
# The sources, by which the kernels in dist are known.
COPY --from=build /app/encoder/kernels/native encoder/kernels/native
COPY --from=build /app/dist dist
# "node", by its number, so that Kubernetes can see that it is not root.
USER 1000
VOLUME ["/data", "/cache"]
EXPOSE 3000
# /health is 200 while the model loads, and takes up to 5 s to see that inference hangs.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SENTENCE_JEPA_PORT}/health`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["serve"]
