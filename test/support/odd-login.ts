/** A login of the brokers that the tests start, and a virtual host of RabbitMQ's: with what some brokers take for escapes. */
export const oddLogin = { user: 'a\\nb', password: 'p\\nq:\\c\\\\d', vhost: 'v\\nw' };
