# The image of this checkout: docker build -t stomp-pubsub .
# Its entry point is pubsub itself, so what follows the image's name is what follows pubsub elsewhere:
#     docker run --rm -v ./orders.mjs:/app/orders.mjs:ro -e STOMP_SERVER_HOST=rabbitmq stomp-pubsub /queue/orders ./orders.mjs#onOrder
FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run build
RUN npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:22-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/bin ./bin
COPY --from=build /app/dist/src ./dist/src
COPY --from=build /app/callbacks ./callbacks
USER node
# Node is the first process and takes the signals itself: no shell, no npm in front of it.
ENTRYPOINT ["node", "bin/pubsub.js"]
CMD ["--help"]
